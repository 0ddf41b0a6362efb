package zkstate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// TestMachineIsPure keeps goroutines, channels, clocks and I/O out of the files that decide.
func TestMachineIsPure(t *testing.T) {
	allowed := []string{"bytes", "encoding/json", "errors", "fmt", "maps", "path", "slices", "strings", "time",
		"github.com/go-zookeeper/zk", "github.com/sirupsen/logrus"} // zk for its errors
	clocks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	for _, file := range []string{"state.go", "call.go", "read.go", "flag.go", "reload.go", "claim.go", "record.go", "closing.go"} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if name, _ := strconv.Unquote(imp.Path.Value); !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s", file, name)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			bad := false
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				bad = true
			case *ast.SelectorExpr:
				pkg, ok := n.X.(*ast.Ident)
				bad = ok && pkg.Name == "time" && slices.Contains(clocks, n.Sel.Name) ||
					ok && pkg.Name == "zk" && n.Sel.Name[:3] != "Err"
			}
			if bad {
				t.Errorf("%s: not for a machine", fset.Position(n.Pos()))
			}
			return true
		})
	}
}
