package bandsox_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/bandsox/bandsox"

// edge is one allowed import between our own packages, with what it is for.
// "." is the library at the root.
type edge struct{ from, to, why string }

// edges are all imports of production code. Direction is downwards only:
// cmd, examples, bench, lab → the library → the leaves → wire. Leaves meet as plain
// values (a reader, a path, a spec, a dial function) and never import each
// other; a new edge needs a reason that this list can hold.
var edges = []edge{
	{"cmd/bandsox", ".", "what commands ask for and print, and the manager of bandsox serve"},
	{"cmd/bandsox", "internal/auth", "keys are made before there is a server, and when none answers"},
	{"cmd/bandsox", "internal/server", "serves the library"},
	{"cmd/bandsox", "internal/store", "names the auth file and the server's, and the directory they are in by default"},
	{"cmd/bandsox", "client", "commands speak to a server, theirs or another"},
	{"cmd/bandsox-agent", "internal/agent/guest", "the program around the guest's side"},
	{"examples/try", ".", "what make try runs is an example first"},
	{"examples/try", "client", "a server may have the state directory already"},
	{"examples/try", "internal/store", "names its socket"},
	{"bench", ".", "what is measured is what users call"},
	{"bench", "client", "what HTTP costs is what a client sees"},
	{"bench", "internal/api", "bodies as a client makes them"},
	{"bench", "internal/auth", "a server asks for its keys"},
	{"bench", "internal/server", "one in this process, so that the library's exec is in the same guest"},
	{"bench", "agentbin", "the agent's size is a figure"},
	{"bench", "internal/agent", "a bare QEMU still needs someone to ask the agent"},
	{"bench", "internal/disk", "a bare QEMU gets the same kind of disk"},
	{"bench", "internal/wire", "a bare QEMU is asked in the agent's words"},
	{"lab", "agentbin", "the agent runs the lab's machine as it does a sandbox"},
	{"lab", "internal/agent", "a command in the lab is a process of its agent's"},
	{"lab", "internal/disk", "the lab's drives are a base and disks"},
	{"lab", "internal/image", "its root file system is bandsox/base with more packages"},
	{"lab", "internal/kernel", "its kernel and initramfs are as a sandbox's"},
	{"lab", "internal/store", "its state directory is laid out as every one"},
	{"lab", "internal/vm/qemu", "the host's TSC rate"},
	{"lab", "internal/wire", "the agent is asked in its words"},

	{".", "agentbin", "the agent travels in the binary"},
	{".", "internal/agent", "a connection becomes processes and files"},
	{".", "internal/disk", "a tar stream becomes a base, a size a disk"},
	{".", "internal/image", "a reference becomes a tar stream, a config and a digest"},
	{".", "internal/kernel", "finds the kernel, makes the initramfs"},
	{".", "internal/store", "remembers, and names every file"},
	{".", "internal/transfer", "files are read and copied as a server's client does"},
	{".", "internal/vm", "a spec becomes a machine, whichever driver runs it"},
	{".", "internal/vm/firecracker", "one of the drivers there are: chosen here and nowhere else"},
	{".", "internal/vm/qemu", "the other one"},
	{".", "internal/wire", "the library's types are the wire's types: no second model"},

	{"client", ".", "the client has the library's types and errors"},
	{"client", "internal/agent", "trees of files are packed and unpacked here, server or guest, with one set of checks"},
	{"client", "internal/api", "the bodies that it writes and reads"},
	{"client", "internal/transfer", "files are read and copied as the library does"},
	{"client", "internal/wire", "errors with a code and a hint"},
	{"internal/api", ".", "what a request asks for is what the library is asked for"},
	{"internal/api", "internal/wire", "errors with a code and a hint"},
	{"internal/api", "internal/auth", "keys, limits and who did what: bodies as they are"},
	{"internal/server", ".", "the server is the library on HTTP"},
	{"internal/server", "internal/api", "the bodies that it reads and writes"},
	{"internal/server", "internal/auth", "who may do what stands in front of every route"},
	{"internal/server", "internal/store", "reads and writes the files of a server's own as every file"},
	{"internal/server", "internal/wire", "errors with a code and a hint"},
	{"internal/server", "web", "the pages, as files in the binary"},

	{"internal/agent", "internal/wire", "the host's side of the protocol"},
	{"internal/agent/guest", "internal/wire", "the guest's side of the protocol"},
	{"internal/auth", "internal/wire", "errors with a code and a hint"},
	{"internal/disk", "internal/wire", "errors with a code and a hint"},
	{"internal/image", "internal/wire", "errors with a code and a hint"},
	{"internal/kernel", "internal/wire", "errors with a code and a hint"},
	{"internal/store", "internal/wire", "errors with a code and a hint"},
	{"internal/transfer", "internal/wire", "what it asks for is what the agent is asked"},
	{"internal/vm", "internal/wire", "errors with a code and a hint"},
	{"internal/vm/firecracker", "internal/vm", "is one of its drivers"},
	{"internal/vm/firecracker", "internal/vm/monitor", "its machine is a process of this host"},
	{"internal/vm/firecracker", "internal/wire", "errors with a code and a hint"},
	{"internal/vm/qemu", "internal/vm/monitor", "its machine is one, too"},
	{"internal/vm/monitor", "internal/vm", "finds machines, and what was saved of them"},
	{"internal/vm/monitor", "internal/wire", "errors with a code and a hint"},
	{"internal/vm/qemu", "internal/vm", "is one of its drivers"},
	{"internal/vm/qemu", "internal/wire", "errors with a code and a hint"},

	// The contract suite and the process fake: only tests import them.
	{"internal/contract", ".", "one suite holds the library"},
	{"internal/contract", "client", "and the client to the same words"},
	{"internal/contract", "internal/vm/vmtest", "sandboxes need images"},
	{"internal/vm/vmtest", "internal/agent", "asks the guest that a driver booted"},
	{"internal/vm/vmtest", "internal/agent/guest", "the process fake is the real agent on the host"},
	{"internal/vm/vmtest", "internal/disk", "machines need drives"},
	{"internal/vm/vmtest", "internal/kernel", "machines need a kernel"},
	{"internal/vm/vmtest", "internal/vm", "the contract is that of its interfaces"},
	{"internal/vm/vmtest", "internal/vm/monitor", "the process fake is a process of this host as well"},
	{"internal/vm/vmtest", "internal/wire", "what the agent is asked, and how errors are classed"},
}

// testEdges are the further imports of test files.
var testEdges = []edge{
	{"cmd/bandsox", "internal/vm/vmtest", "its scripts run on the process fake too"},
	{".", "internal/contract", "the library is held to the contract"},
	{"client", "internal/contract", "and the client to the same one"},
	{"examples/try", "internal/vm/vmtest", "a server is to be built"},
	{"client", "internal/server", "through a real server"},
	{"client", "internal/auth", "whose keys it needs"},
	{"client", "internal/vm/vmtest", "with machines behind it"},
	{"internal/server", "internal/vm/vmtest", "a server needs a manager, and that machines"},
	{"internal/vm/firecracker", "internal/vm/vmtest", "the driver is held to the contract"},
	{"internal/vm/qemu", "internal/vm/vmtest", "the driver is held to the contract"},
	{".", "internal/vm/vmtest", "the library runs on the process fake where there is no VM"},
	{"internal/image", "internal/vm/vmtest", "starts a docker daemon, as others' tests do"},
	{"internal/agent", "internal/agent/guest", "both sides of the protocol against each other"},
}

// TestLayers fails on an import that isn't listed, and on a listed one that
// isn't there any more: the list is the map, so it must be true.
func TestLayers(t *testing.T) {
	code, tests := imports(t)
	compare(t, "edges", edges, code)
	for k := range tests {
		if code[k] {
			delete(tests, k) // production has it already
		}
	}
	compare(t, "testEdges", testEdges, tests)
}

type arrow struct{ from, to string }

func compare(t *testing.T, list string, want []edge, got map[arrow]bool) {
	t.Helper()
	listed := map[arrow]bool{}
	for _, e := range want {
		a := arrow{e.from, e.to}
		if listed[a] {
			t.Errorf("%s: %s → %s is listed twice", list, a.from, a.to)
		}
		if e.why == "" {
			t.Errorf("%s: %s → %s has no reason", list, a.from, a.to)
		}
		listed[a] = true
		if !got[a] {
			t.Errorf("%s: %s → %s is listed and no longer imported: remove it", list, a.from, a.to)
		}
	}
	for a := range got {
		if !listed[a] {
			t.Errorf("%s: %s imports %s, which is not listed: meet as plain values, or list it with its reason", list, a.from, a.to)
		}
	}
}

// imports reads every Go file of the module, whatever its build tags.
func imports(t *testing.T) (code, tests map[arrow]bool) {
	code, tests = map[arrow]bool{}, map[arrow]bool{}
	for _, file := range goFiles(t) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		from := path.Dir(file)
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			if name != module && !strings.HasPrefix(name, module+"/") {
				continue
			}
			to := path.Join(".", strings.TrimPrefix(name, module))
			to = strings.TrimPrefix(to, "/")
			if to == "" {
				to = "."
			}
			switch {
			case from == to: // an external test of its own package
			case strings.HasSuffix(file, "_test.go"):
				tests[arrow{from, to}] = true
			default:
				code[arrow{from, to}] = true
			}
		}
	}
	return code, tests
}

// goFiles are the module's Go files, relative to the root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "bin", "dist", "tools"}, d.Name())) {
			return fs.SkipDir
		}
		if strings.HasSuffix(name, ".go") && !d.IsDir() {
			files = append(files, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestLeaves holds the rules that don't depend on anyone's list.
func TestLeaves(t *testing.T) {
	// Those that stand on the library: it never knows them.
	above := []string{"internal/api", "internal/server", "internal/contract"}
	code, _ := imports(t)
	for a := range code {
		switch {
		case strings.HasPrefix(a.from, "internal/") && a.to == "." && !slices.Contains(above, a.from):
			t.Errorf("%s imports the library: inner packages never know it", a.from)
		case a.from == "." && (slices.Contains(above, a.to) || a.to == "client"):
			t.Errorf("the library imports %s, which stands on it", a.to)
		case a.to == "internal/vm/vmtest" && a.from != "internal/contract":
			t.Errorf("%s imports vmtest outside a test", a.from)
		case strings.HasPrefix(a.to, "cmd/"), strings.HasPrefix(a.to, "examples/"), strings.HasPrefix(a.to, "bench"):
			t.Errorf("%s imports %s, which is a program", a.from, a.to)
		}
	}
}

// TestWireIsStandardLibraryOnly because it is linked into the agent, and an
// SDK in another language must be able to read it whole.
func TestWireIsStandardLibraryOnly(t *testing.T) {
	for _, file := range goFiles(t) {
		if path.Dir(file) != "internal/wire" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", file, name)
			}
		}
	}
}

// TestAgentLinksLittle: the agent is in every guest's memory. net/http alone
// would more than double it.
func TestAgentLinksLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}} {{.ImportPath}}", "./cmd/bandsox-agent").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := fields[len(fields)-1]
		ours := strings.HasPrefix(name, module)
		switch {
		case name == "net/http", name == "crypto/tls":
			t.Errorf("the agent links %s", name)
		case len(fields) == 2 && !ours && !strings.HasPrefix(name, "golang.org/x/sys/"):
			t.Errorf("the agent links %s: standard library and x/sys only", name)
		case ours && !slices.Contains([]string{"cmd/bandsox-agent", "internal/agent/guest", "internal/wire"}, strings.TrimPrefix(name, module+"/")):
			t.Errorf("the agent links %s", name)
		}
	}
}
