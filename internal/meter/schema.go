package meter

import "strings"

// A node is what a schema says of the values at one path of a JSON document. A value that has no node is skipped.
type node struct {
	field    field
	how      treatment
	members  map[string]*node
	rest     *node // of a member that is not among them
	elements *node
}

// A treatment says what becomes of a string.
type treatment uint8

const (
	keep    treatment = iota // handed over, if it is short
	count                    // its characters are counted
	pipe                     // handed over in pieces, of any length
	measure                  // its beginning is handed over, and its characters are counted
)

// A rule puts a field at a path, such as "choices[].delta.content": members are separated by dots, [] stands for every
// element of an array, and * for every member that no other rule names. A path that ends in an object or array reports
// where it begins and ends.
type rule struct {
	path  string
	field field
	how   treatment
}

// schema compiles rules. Paths are as deep as maxLevels at most.
func schema(lists ...[]rule) *node {
	root := new(node)
	for _, rules := range lists {
		for _, r := range rules {
			n := root.at(r.path)
			n.field, n.how = r.field, r.how
		}
	}
	return root
}

func (n *node) at(path string) *node {
	if path == "" {
		return n
	}
	for _, part := range strings.Split(path, ".") {
		name := strings.TrimRight(part, "[]")
		if n.members == nil {
			n.members = make(map[string]*node)
		}
		switch {
		case name == "*":
			if n.rest == nil {
				n.rest = new(node)
			}
			n = n.rest
		default:
			if n.members[name] == nil {
				n.members[name] = new(node)
			}
			n = n.members[name]
		}
		for range strings.Count(part, "[]") {
			if n.elements == nil {
				n.elements = new(node)
			}
			n = n.elements
		}
	}
	return n
}

// under returns the rules with a prefix before each path.
func under(prefix string, rules []rule) []rule {
	out := make([]rule, len(rules))
	for i, r := range rules {
		out[i] = r
		out[i].path = strings.Trim(prefix+"."+r.path, ".")
	}
	return out
}

// each puts the same field at several paths.
func each(f field, how treatment, paths ...string) []rule {
	out := make([]rule, len(paths))
	for i, p := range paths {
		out[i] = rule{p, f, how}
	}
	return out
}
