package text

import (
	"fmt"
	"strings"
)

// Unknown says which words there are, and which of them is meant by one that is not.
func Unknown(word string, known []string) string {
	return "; there are " + strings.Join(known, ", ") + Meant(word, known)
}

// Meant asks for the known word that is meant by another one, if one is near.
func Meant(word string, known []string) string {
	best, least := "", 1+Tolerance(word)
	for _, k := range known {
		if d := Distance(strings.ToLower(word), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// Distance is how many letters have to be put in, left out, changed or swapped with the next to turn one word into the
// other.
func Distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// Tolerance is by how many letters a word may differ from the one that is meant.
func Tolerance(word string) int { return max(1, len(word)/3) }
