package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the help of the command.
func (completionCommand) Help() string {
	return `The script completes commands, flags and the values of those that take one of a few:

  bash:  source <(tenant completion bash)
  zsh:   tenant completion zsh > "${fpath[1]}/_tenant"
  fish:  tenant completion fish > ~/.config/fish/completions/tenant.fish`
}

// place is a command, as far as it is typed, and what may come behind it.
type place struct {
	path  string // "tenant show"
	words []word // commands and flags
	one   map[string][]string
	takes []string // flags that a value follows
}

type word struct{ text, help string }

func (c *completionCommand) Run(a *app) error {
	places := walk(a.parser.Model.Node, "", a.parser.Model.Flags)
	switch c.Shell {
	case "bash":
		bash(a.out, places)
	case "zsh":
		zsh(a.out, places)
	case "fish":
		fish(a.out, places)
	}
	return nil
}

func walk(n *kong.Node, path string, global []*kong.Flag) []place {
	p := place{path: path, one: map[string][]string{}}
	for _, child := range n.Children {
		p.words = append(p.words, word{child.Name, firstSentence(child.Help)})
	}
	flags := global
	if n.Parent != nil {
		flags = slices.Concat(n.Flags, global)
	}
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		p.words = append(p.words, word{"--" + f.Name, firstSentence(f.Help)})
		if f.IsBool() {
			continue
		}
		p.takes = append(p.takes, "--"+f.Name)
		if f.Enum != "" {
			p.one["--"+f.Name] = slices.DeleteFunc(strings.Split(f.Enum, ","), func(s string) bool { return s == "" })
		}
	}
	for _, arg := range n.Positional {
		if arg.Enum != "" {
			for _, value := range strings.Split(arg.Enum, ",") {
				p.words = append(p.words, word{value, ""})
			}
		}
	}
	places := []place{p}
	for _, child := range n.Children {
		places = append(places, walk(child, strings.TrimSpace(path+" "+child.Name), global)...)
	}
	return places
}

func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, ". ")
	s, _, _ = strings.Cut(s, ": ")
	return strings.TrimSuffix(s, ".")
}

// quote is a text between single quotes, as all of these shells take it.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// cases are the branches of a shell's case statement, by place and by flag.
func cases(o *output, places []place, words func([]word) string) {
	o.say("  case $at in")
	for _, p := range places {
		o.say("  %s)", quote(p.path))
		if len(p.one) > 0 {
			o.say("    case $previous in")
			for _, flag := range p.takes {
				if values := p.one[flag]; values != nil {
					list := make([]word, len(values))
					for i, v := range values {
						list[i].text = v
					}
					o.say("    %s) %s; return;;", flag, words(list))
				}
			}
			o.say("    esac")
		}
		if len(p.takes) > 0 {
			o.say("    case $previous in %s) return 1;; esac", strings.Join(p.takes, "|"))
		}
		o.say("    %s;;", words(p.words))
	}
	o.say("  esac")
}

// paths are the branches that say how the path goes on with a word.
func paths(o *output, places []place) {
	o.say("    case \"$at $word\" in")
	for _, p := range places {
		if p.path != "" {
			o.say("    %s) at=%s;;", quote(" "+p.path), quote(p.path))
			if strings.Contains(p.path, " ") {
				o.say("    %s) at=%s;;", quote(p.path), quote(p.path))
			}
			if short, ok := strings.CutPrefix(p.path, "tenant "); ok {
				o.say("    %s) at=%s;;", quote(" "+short), quote(p.path))
			}
		}
	}
	o.say("    esac")
}

func bash(o *output, places []place) {
	o.say("# Completion of tenant for bash.")
	o.say("_tenant() {")
	o.say("  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} at='' word i")
	o.say("  for ((i = 1; i < COMP_CWORD; i++)); do")
	o.say("    word=${COMP_WORDS[i]}")
	paths(o, places)
	o.say("  done")
	cases(o, places, func(words []word) string {
		texts := make([]string, len(words))
		for i, w := range words {
			texts[i] = w.text
		}
		return fmt.Sprintf("COMPREPLY=($(compgen -W %s -- \"$current\"))", quote(strings.Join(texts, " ")))
	})
	o.say("}")
	o.say("complete -o default -F _tenant tenant")
}

func zsh(o *output, places []place) {
	o.say("#compdef tenant")
	o.say("_tenant() {")
	o.say("  local previous=${words[CURRENT-1]} at='' word")
	o.say("  for word in ${words[2,CURRENT-1]}; do")
	paths(o, places)
	o.say("  done")
	cases(o, places, func(words []word) string {
		texts := make([]string, len(words))
		for i, w := range words {
			texts[i] = quote(strings.TrimSuffix(w.text+":"+strings.ReplaceAll(w.help, ":", `\:`), ":"))
		}
		return "local -a found=(" + strings.Join(texts, " ") + "); _describe tenant found || _files"
	})
	o.say("}")
	o.say("if [ \"$funcstack[1]\" = _tenant ]; then _tenant \"$@\"; else compdef _tenant tenant; fi")
}

func fish(o *output, places []place) {
	o.say("# Completion of tenant for fish.")
	o.say("function __tenant_at")
	o.say("  set -l at ''")
	o.say("  for word in (commandline -opc)[2..]")
	o.say("    switch \"$at $word\"")
	for _, p := range places {
		if p.path == "" {
			continue
		}
		names := []string{quote(" " + p.path)}
		if strings.Contains(p.path, " ") {
			names = []string{quote(p.path)}
		}
		if short, ok := strings.CutPrefix(p.path, "tenant "); ok {
			names = append(names, quote(" "+short))
		}
		o.say("      case %s", strings.Join(names, " "))
		o.say("        set at %s", quote(p.path))
	}
	o.say("    end")
	o.say("  end")
	o.say("  test \"$at\" = \"$argv[1]\"")
	o.say("end")
	for _, p := range places {
		at := "complete -c tenant -n " + quote("__tenant_at "+quote(p.path))
		for _, w := range p.words {
			help := ""
			if w.help != "" {
				help = " -d " + fishQuote(w.help)
			}
			flag, isFlag := strings.CutPrefix(w.text, "--")
			switch {
			case !isFlag:
				o.say("%s -f -a %s%s", at, w.text, help)
			case p.one[w.text] != nil:
				o.say("%s -x -l %s -a %s%s", at, flag, fishQuote(strings.Join(p.one[w.text], " ")), help)
			case slices.Contains(p.takes, w.text):
				o.say("%s -r -l %s%s", at, flag, help)
			default:
				o.say("%s -l %s%s", at, flag, help)
			}
		}
	}
}

// fishQuote is a text between single quotes, in which fish takes a backslash for one.
func fishQuote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
}
