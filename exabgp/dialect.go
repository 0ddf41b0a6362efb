package exabgp

import (
	"fmt"
	"strings"
)

// Dialect is a command language of ExaBGP.
type Dialect uint8

const (
	Auto        Dialect = iota // found out from the messages, the environment and the answers; 4.2's until then
	Dialect34                  // 3.4: no replies
	Dialect42                  // 4.2
	Dialect5                   // 5.0, and what follows it with exabgp.api.version=4: the commands of 4.2
	Dialect6                   // API 6, what follows 5.0 by default: every command begins with its target
	numDialects = iota
)

var dialectNames = [numDialects]string{"auto", "3.4", "4.2", "5", "6"}

func (d Dialect) String() string { return dialectNames[d] }

// Dialects are the names of all, as ParseDialect reads them.
func Dialects() []string { return dialectNames[:] }

// ParseDialect reads "auto", "3.4", "4.2", "5" or "6".
func ParseDialect(text string) (Dialect, error) {
	for d, name := range dialectNames {
		if text == name {
			return Dialect(d), nil
		}
	}
	return Auto, fmt.Errorf("%q is no dialect of ExaBGP; remedy: write one of %s", text, strings.Join(dialectNames[:], ", "))
}

// dialectOfVersion reads the "exabgp" member of a message, the version of its form: "3.4.8", "4.0.1", "5.0.0" or "6.0.0". What
// comes later is taken for API 6.
func dialectOfVersion(version string) Dialect {
	switch major, _, _ := strings.Cut(version, "."); major {
	case "3":
		return Dialect34
	case "4": // and the main branch with API 4
		return Dialect42
	case "5":
		return Dialect5
	case "6", "7", "8", "9":
		return Dialect6
	}
	return Auto
}

// dialectOfEnviron looks for what ExaBGP's environment tells about its command language. A process inherits it, and with it the
// setting exabgp.api.version, written with dots or underscores, where an operator made one. 3.4 to 5.0 do not have that one.
// Nothing else there differs between versions without fail.
func dialectOfEnviron(environ []string) Dialect {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if strings.ReplaceAll(name, ".", "_") == "exabgp_api_version" {
			switch value {
			case "4":
				return Dialect5
			case "6":
				return Dialect6
			}
		}
	}
	return Auto
}

// Queries for the sessions, for what ExaBGP announces, and for the neighbors' configuration.
const (
	querySummary = "show neighbor summary"
	queryStatus  = "show neighbor status" // 3.4
	queryPeers   = "peer list"            // API 6

	queryRoutes        = "show adj-rib out extensive"
	queryConfiguration = "show neighbor configuration"

	queryRoutes6        = "rib show out"
	queryConfiguration6 = "peer show configuration"
)

// sessions is the query for the sessions.
func (d Dialect) sessions() string {
	switch d {
	case Dialect34:
		return queryStatus
	case Dialect6:
		return queryPeers
	}
	return querySummary
}

// routes is the query for what ExaBGP holds.
func (d Dialect) routes() string {
	if d == Dialect6 {
		return queryRoutes6
	}
	return queryRoutes
}

func (d Dialect) configuration() string {
	if d == Dialect6 {
		return queryConfiguration6
	}
	return queryConfiguration
}
