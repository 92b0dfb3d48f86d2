// Testsum reads `go test -json` and prints what a person wants of it: failures
// whole and at once, a line a package, then every skipped test with its reason
// and one line of sums. It exits 1 when anything failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// event is one line of go test -json; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

func main() {
	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

type skip struct{ test, reason string }

type summary struct {
	w                       io.Writer
	output                  map[string]*strings.Builder // by package and test, until it ends
	builds                  map[string]*strings.Builder // compiler's words by import path
	skips                   []skip
	failures                []string
	passed, failed, skipped int
	packages                int
	broken                  bool // something failed that isn't a test: a build, a package
}

func newSummary(w io.Writer) *summary {
	return &summary{w: w, output: map[string]*strings.Builder{}, builds: map[string]*strings.Builder{}}
}

func (s *summary) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				s.add(e)
			} else {
				s.w.Write(line) // not ours to hide
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		keep(s.output, key, e.Output)
	case "build-output":
		keep(s.builds, e.ImportPath, e.Output)
	case "build-fail":
		s.broken = true
	case "pass", "fail", "skip":
		text := ""
		if b := s.output[key]; b != nil {
			text = b.String()
			delete(s.output, key)
		}
		if e.Test == "" {
			s.endPackage(e, text)
		} else {
			s.endTest(e, text)
		}
	}
}

func keep(m map[string]*strings.Builder, key, text string) {
	b := m[key]
	if b == nil {
		b = &strings.Builder{}
		m[key] = b
	}
	b.WriteString(text)
}

func (s *summary) endTest(e event, text string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failures = append(s.failures, short(e.Package)+" "+e.Test)
		fmt.Fprintf(s.w, "FAIL %s %s\n%s\n", e.Package, e.Test, text)
	case "skip":
		s.skipped++
		s.skips = append(s.skips, skip{short(e.Package) + " " + e.Test, reason(text)})
	}
}

func (s *summary) endPackage(e event, text string) {
	s.packages++
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.w, "ok   %-40s %6.1fs\n", short(e.Package), e.Elapsed)
	case "skip":
		fmt.Fprintf(s.w, "     %-40s no tests\n", short(e.Package))
	case "fail":
		s.broken = true
		fmt.Fprintf(s.w, "FAIL %-40s %6.1fs\n", short(e.Package), e.Elapsed)
		if b := s.builds[e.FailedBuild]; b != nil {
			fmt.Fprint(s.w, b.String())
		}
		fmt.Fprint(s.w, withoutVerdict(text))
		s.unfinished(e.Package)
	}
}

// unfinished prints the output of tests that never ended: a panic, a timeout
// or an os.Exit took the package down, and the reason is in one of them.
func (s *summary) unfinished(pkg string) {
	var keys []string
	for k := range s.output {
		if strings.HasPrefix(k, pkg+" ") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprintf(s.w, "did not end: %s\n%s\n", k, s.output[k])
		delete(s.output, k)
	}
}

func (s *summary) close() bool {
	if len(s.skips) > 0 {
		fmt.Fprintln(s.w, "\nskipped:")
		for _, k := range s.skips {
			fmt.Fprintf(s.w, "  %s: %s\n", k.test, k.reason)
		}
	}
	if len(s.failures) > 0 {
		fmt.Fprintf(s.w, "\nfailed:\n  %s\n", strings.Join(s.failures, "\n  "))
	}
	fmt.Fprintf(s.w, "\n%d passed, %d failed, %d skipped in %d packages\n", s.passed, s.failed, s.skipped, s.packages)
	// No package at all is a run that never was: not a success.
	return s.failed == 0 && !s.broken && s.packages > 0
}

// withoutVerdict is a failed package's own output without the runner's lines,
// which say again what was said.
func withoutVerdict(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "FAIL\n" && !strings.HasPrefix(line, "FAIL\t") && !strings.HasPrefix(line, "exit status ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

const module = "github.com/bandsox/bandsox"

func short(pkg string) string {
	if pkg == module {
		return "."
	}
	return strings.TrimPrefix(pkg, module+"/")
}

// reason is what was given to t.Skip: the last line that isn't the runner's own.
func reason(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		l := strings.TrimSpace(lines[i])
		if l == "" || strings.HasPrefix(l, "--- ") || strings.HasPrefix(l, "=== ") {
			continue
		}
		// file_test.go:12: the reason
		if _, after, ok := strings.Cut(l, ".go:"); ok {
			_, words, _ := strings.Cut(after, ":")
			l = strings.TrimSpace(words)
		}
		if l != "" {
			return l
		}
	}
	return "no reason given"
}
