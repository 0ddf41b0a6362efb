package daemon

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"exazk/zkstate"
)

// GracefulShutdown is the community of RFC 8326: routers that know it prefer any other path.
const GracefulShutdown = "65535:0"

// Flag is what a maintenance or failback node says: JSON as the commands of exazk write it, or any text of an operator's,
// which is then the reason. An empty node is as good as any.
type Flag struct {
	Reason string    `json:"reason,omitempty"`
	Who    string    `json:"who,omitempty"`
	By     string    `json:"by,omitempty"` // which command wrote it: "maintenance", "drain", "failback"
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"` // wall clock; the flag means nothing any more from then on. Zero: no end
	Data   []byte    `json:"-"`              // as it was read
}

// maxNote bounds what of an operator's text gets into logs and status records.
const maxNote = 200

// ParseFlag reads the data of such a node. It never fails: what is not JSON is a reason.
func ParseFlag(data []byte) Flag {
	var f Flag
	if json.Unmarshal(data, &f) != nil {
		f = Flag{Reason: string(data)}
	}
	f.Since, f.Until = zkstate.Instant(f.Since), zkstate.Instant(f.Until)
	f.Reason, f.Who, f.By = printable(f.Reason), printable(f.Who), printable(f.By)
	f.Data = append([]byte{}, data...)
	return f
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // controls, and what turns the direction of a terminal's text
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxNote {
		s = strings.ToValidUTF8(s[:maxNote], "")
	}
	return strings.TrimSpace(s)
}

// over says whether the flag's time is over.
func (f *Flag) over(now time.Time) bool { return !f.Until.IsZero() && !now.Before(f.Until) }

// String is the flag in a few words.
func (f *Flag) String() string {
	var words []string
	if f.Reason != "" {
		words = append(words, f.Reason)
	}
	if f.Who != "" {
		words = append(words, "by "+f.Who)
	}
	if !f.Until.IsZero() {
		words = append(words, "until "+f.Until.UTC().Format(time.RFC3339))
	}
	return strings.Join(words, ", ")
}
