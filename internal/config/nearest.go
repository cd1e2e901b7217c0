package config

import "strings"

// Nearest gives the word among known that was probably meant by word, or "" if
// none is near: the one with the fewest edits (Levenshtein's distance, with
// letters of any case alike), at most two or a third of the word's length.
func Nearest(word string, known []string) string {
	best, bestAt := "", max(2, len(word)/3)+1
	if len(word) > 64 {
		return "" // not a slip of the finger
	}
	for _, k := range known {
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d < bestAt && d < len(k) {
			best, bestAt = k, d
		}
	}
	return best
}

// edits counts insertions, deletions and replacements that turn a into b
// (Wagner and Fischer, 1974), one row at a time.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
