package broker_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The limits of the build. A file or function that outgrows them has more than one concept in it.
const (
	maxFileLines     = 600
	maxTestFileLines = 800
	maxFuncLines     = 90
	module           = "varve"
)

// arrows is DESIGN.md section 2: what each package of ours may import of ours. A package that has
// no row here does not belong to the design yet.
var arrows = map[string][]string{
	"broker/record":             {},
	"broker/auth":               {},
	"broker/internal/vfs":       {},
	"broker/internal/badgerdir": {},
	"gossip":                    {},
	"tiering/object":            {},
	"broker/commitlog":          {"broker/record", "broker/internal/vfs"},
	"broker/meta":               {"broker/auth", "broker/internal/vfs", "broker/meta/store"},
	"broker/meta/store":         {"broker/internal/badgerdir"},
	"broker/wire":               {"broker/auth"},
	"tiering":                   {"tiering/object"},
	"tiering/cost":              {"tiering/object"},
	"broker/partition":          {"broker/commitlog", "broker/record", "broker/internal/badgerdir", "tiering"},
	"broker/replication":        {"broker/partition", "broker/record"},
	"broker/coord":              {"broker/partition", "broker/record"},
	"broker/group":              {"broker/coord", "broker/record"},
	"broker/txn":                {"broker/coord", "broker/record"},
	"broker/api":                {"broker/wire", "broker/auth", "broker/meta", "broker/partition", "broker/coord", "broker/group", "broker/txn", "broker/record"},
	"broker/admin":              {"broker/meta", "broker/partition", "broker/group", "broker/txn", "tiering", "tiering/cost"},
	"cmd/varve":                 {"broker", "broker/record", "broker/commitlog", "tiering", "tiering/object", "tiering/cost"},
	"tiering/object/storetest":  {"tiering/object"},
	"broker": {
		"broker/record", "broker/auth", "broker/internal/vfs", "gossip", "tiering/object", "broker/commitlog",
		"broker/meta", "broker/wire", "tiering", "tiering/cost", "broker/partition", "broker/replication",
		"broker/coord", "broker/group", "broker/txn", "broker/api", "broker/admin",
	},
}

// testArrows is what the tests of any package may import beside that: the edges with their fakes,
// the record builder, and the log that a replica is made over.
var testArrows = []string{"broker/internal/vfs", "broker/record", "broker/commitlog", "tiering/object", "tiering/object/storetest"}

// clientLibraries speak the protocol from the other side. A broker that dials with them would
// test one client's reading of the protocol against itself.
var clientLibraries = []string{"github.com/twmb/franz-go/pkg/kgo", "github.com/twmb/franz-go/pkg/kadm"}

// cardLibraries must do real work in the one binary.
var cardLibraries = []string{
	"github.com/twmb/franz-go/pkg/kmsg",
	"github.com/minio/minio-go/v7",
	"github.com/dgraph-io/badger/v4",
	"github.com/hashicorp/memberlist",
	"github.com/pierrec/lz4/v4",
}

// goFile is one parsed source file of the repository.
type goFile struct {
	name    string // relative to the repository
	dir     string
	test    bool
	lines   int
	ast     *ast.File
	fset    *token.FileSet
	imports []string
}

func TestArrowsOfTheDesignHold(t *testing.T) {
	for _, f := range parseRepository(t) {
		if underIntegration(f) {
			continue
		}
		allowed, known := arrows[f.dir]
		if !known {
			t.Errorf("%s: package %s has no row in DESIGN.md section 2 and in arrows", f.name, f.dir)
			continue
		}
		if f.test {
			allowed = slices.Concat(allowed, testArrows, []string{f.dir})
		}
		for _, imp := range f.imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			if ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s -> %s is not an arrow of DESIGN.md section 2", f.name, imp, f.dir, to)
			}
		}
	}
}

func TestArrowsHaveNoCycle(t *testing.T) {
	for start := range arrows {
		if reach(start, arrows, map[string]bool{})[start] {
			t.Errorf("%s imports itself by the table", start)
		}
	}
}

func TestBrokerNeverImportsAClient(t *testing.T) {
	for _, f := range parseRepository(t) {
		if f.test || underIntegration(f) || f.dir == "cmd/varve" {
			continue
		}
		for _, imp := range f.imports {
			if slices.Contains(clientLibraries, imp) {
				t.Errorf("%s imports %s: only commands and tests are clients", f.name, imp)
			}
		}
	}
}

func TestIntegrationImportsNothingOfOurs(t *testing.T) {
	for _, f := range parseRepository(t) {
		if !underIntegration(f) {
			continue
		}
		for _, imp := range f.imports {
			ours := imp == module || strings.HasPrefix(imp, module+"/")
			if ours && !strings.HasPrefix(imp, module+"/integration") {
				t.Errorf("%s imports %s: it must know the binary only", f.name, imp)
			}
		}
	}
}

func TestBinaryUsesTheCardLibraries(t *testing.T) {
	graph := map[string][]string{}
	for _, f := range parseRepository(t) {
		if f.test || isPin(f) {
			continue
		}
		for _, imp := range f.imports {
			graph[f.dir] = append(graph[f.dir], strings.TrimPrefix(imp, module+"/"))
		}
	}
	reached := reach("cmd/varve", graph, map[string]bool{})
	for _, lib := range cardLibraries {
		if !reached[lib] {
			t.Errorf("cmd/varve does not reach %s", lib)
		}
	}
}

func TestPackagesSayWhatTheyOwn(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range parseRepository(t) {
		if !f.test {
			documented[f.dir] = documented[f.dir] || f.ast.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func TestFilesStayShort(t *testing.T) {
	for _, f := range parseRepository(t) {
		limit := maxFileLines
		if f.test {
			limit = maxTestFileLines
		}
		if f.lines > limit {
			t.Errorf("%s has %d lines, the limit is %d", f.name, f.lines, limit)
		}
	}
}

func TestFunctionsStayShort(t *testing.T) {
	for _, f := range parseRepository(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			name := "func literal"
			var body *ast.BlockStmt
			switch fn := n.(type) {
			case *ast.FuncDecl:
				name, body = fn.Name.Name, fn.Body
			case *ast.FuncLit:
				body = fn.Body
			}
			if body == nil || flatDispatch(body) {
				return true
			}
			if lines := funcLines(f.fset, n, body); lines > maxFuncLines {
				t.Errorf("%s:%d: %s has %d lines, the limit is %d", f.name, f.fset.Position(n.Pos()).Line, name, lines, maxFuncLines)
			}
			return true
		})
	}
}

// funcLines counts the lines of a function; a table (composite literal) in it counts as one.
func funcLines(fset *token.FileSet, fn ast.Node, body *ast.BlockStmt) int {
	lines := span(fset, fn)
	ast.Inspect(body, func(n ast.Node) bool {
		if table, ok := n.(*ast.CompositeLit); ok {
			lines -= span(fset, table) - 1
			return false
		}
		return true
	})
	return lines
}

func span(fset *token.FileSet, n ast.Node) int {
	return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
}

// flatDispatch: one switch over one-statement cases, perhaps with a return after it.
func flatDispatch(body *ast.BlockStmt) bool {
	if len(body.List) == 0 || len(body.List) > 2 {
		return false
	}
	if len(body.List) == 2 {
		if _, ok := body.List[1].(*ast.ReturnStmt); !ok {
			return false
		}
	}
	var cases *ast.BlockStmt
	switch s := body.List[0].(type) {
	case *ast.SwitchStmt:
		cases = s.Body
	case *ast.TypeSwitchStmt:
		cases = s.Body
	default:
		return false
	}
	return !slices.ContainsFunc(cases.List, func(c ast.Stmt) bool { return len(c.(*ast.CaseClause).Body) > 1 })
}

// reach is everything that from leads to.
func reach(from string, graph map[string][]string, seen map[string]bool) map[string]bool {
	for _, to := range graph[from] {
		if !seen[to] {
			seen[to] = true
			reach(to, graph, seen)
		}
	}
	return seen
}

func underIntegration(f goFile) bool {
	return f.dir == "integration" || strings.HasPrefix(f.dir, "integration/")
}

// isPin: a file that only keeps modules in go.mod, behind a build tag that nobody sets.
func isPin(f goFile) bool { return path.Base(f.name) == "pin.go" }

// parseRepository parses every Go file of all modules, generated ones excepted.
func parseRepository(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	walk := func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if base == "testdata" || base == "bin" || (strings.HasPrefix(base, ".") && base != "..") {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parseGo(strings.TrimPrefix(filepath.ToSlash(name), "../"), src)
		if err == nil && !ast.IsGenerated(f.ast) {
			files = append(files, f)
		}
		return err
	}
	if err := filepath.WalkDir("..", walk); err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go file found: the test runs in the wrong folder")
	}
	return files
}

func parseGo(name string, src []byte) (goFile, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return goFile{}, err
	}
	f := goFile{
		name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		lines: bytes.Count(src, []byte("\n")), ast: tree, fset: fset,
	}
	for _, spec := range tree.Imports {
		f.imports = append(f.imports, strings.Trim(spec.Path.Value, `"`))
	}
	return f, nil
}
