package daemon

import (
	"fmt"
	"strings"
)

// lineIndex finds the line of a key. The TOML library tells positions for syntax errors only, and a fault without its
// line is a search at 3 a.m.
type lineIndex map[string][]int // "service[0].check.command" and, without the index, "service.check.command"

func indexLines(text string) lineIndex {
	ix := lineIndex{}
	lists := map[string]int{} // how many tables of a list were there so far
	table, plain := "", ""
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			plain = strings.Trim(strings.TrimSpace(strings.SplitN(line, "#", 2)[0]), "[] \t")
			if table = ""; strings.HasPrefix(line, "[[") {
				lists[plain]++
			}
			for name := range strings.SplitSeq(plain, ".") {
				table = join(table, name)
				if i := lists[indices.ReplaceAllString(table, "")]; i > 0 {
					table = fmt.Sprintf("%s[%d]", table, i-1)
				}
			}
			for list := range lists { // those within begin anew
				if strings.HasPrefix(line, "[[") && strings.HasPrefix(list, plain+".") {
					delete(lists, list)
				}
			}
			ix.put(table, plain, n+1)
		case strings.Contains(line, "=") && !strings.HasPrefix(line, "#"):
			key := strings.Trim(strings.TrimSpace(strings.SplitN(line, "=", 2)[0]), `"'`)
			ix.put(join(table, key), join(plain, key), n+1)
		}
	}
	return ix
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

func (ix lineIndex) put(key, plain string, line int) {
	ix[key] = append(ix[key], line)
	if plain != key {
		ix[plain] = append(ix[plain], line)
	}
}

// line is where a key is written, else where its table begins, else the first line.
func (ix lineIndex) line(key string) int {
	for key != "" {
		if at := ix[key]; len(at) > 0 {
			return at[0]
		}
		if list := strings.LastIndexByte(key, '['); list > strings.LastIndexByte(key, '.') {
			key = key[:list] // the tables of a list may be in one line
			continue
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
	return 1
}

// nth is where the nth occurrence of a key without an index is written.
func (ix lineIndex) nth(key string, n int) int {
	if at := ix[key]; n < len(at) {
		return at[n]
	}
	return ix.line(key)
}
