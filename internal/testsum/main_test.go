package main

import (
	"strings"
	"testing"
)

const stream = `{"Action":"start","Package":"github.com/bandsox/bandsox/a"}
{"Action":"output","Package":"github.com/bandsox/bandsox/a","Test":"TestGood","Output":"noise\n"}
{"Action":"pass","Package":"github.com/bandsox/bandsox/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"github.com/bandsox/bandsox/a","Test":"TestKVM","Output":"=== RUN   TestKVM\n"}
{"Action":"output","Package":"github.com/bandsox/bandsox/a","Test":"TestKVM","Output":"    a_test.go:7: needs KVM: /dev/kvm: no such file\n"}
{"Action":"output","Package":"github.com/bandsox/bandsox/a","Test":"TestKVM","Output":"--- SKIP: TestKVM (0.00s)\n"}
{"Action":"skip","Package":"github.com/bandsox/bandsox/a","Test":"TestKVM","Elapsed":0}
{"Action":"output","Package":"github.com/bandsox/bandsox/a","Output":"ok\n"}
{"Action":"pass","Package":"github.com/bandsox/bandsox/a","Elapsed":1.5}
`

func run(t *testing.T, in string) (string, bool) {
	t.Helper()
	var out strings.Builder
	s := newSummary(&out)
	if err := s.read(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	ok := s.close()
	return out.String(), ok
}

func wants(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(got, l) {
			t.Errorf("no %q in:\n%s", l, got)
		}
	}
}

func TestPassAndSkip(t *testing.T) {
	got, ok := run(t, stream)
	if !ok {
		t.Error("a run without failures failed")
	}
	wants(t, got, "ok   a ", "  a TestKVM: needs KVM: /dev/kvm: no such file\n", "1 passed, 0 failed, 1 skipped in 1 packages")
	if strings.Contains(got, "noise") {
		t.Error("the output of a test that passed was printed")
	}
}

func TestFailure(t *testing.T) {
	got, ok := run(t, stream+`{"Action":"output","Package":"b","Test":"TestBad","Output":"b_test.go:1: wrong\n"}
{"Action":"fail","Package":"b","Test":"TestBad"}
{"Action":"fail","Package":"b"}
`)
	if ok {
		t.Error("a failed test passed")
	}
	wants(t, got, "FAIL b TestBad\nb_test.go:1: wrong\n", "failed:\n  b TestBad\n", "1 passed, 1 failed, 1 skipped")
}

func TestBrokenPackages(t *testing.T) {
	for name, in := range map[string]string{
		"build": `{"ImportPath":"b [b.test]","Action":"build-output","Output":"./x.go:1: undefined: y\n"}
{"ImportPath":"b [b.test]","Action":"build-fail"}
{"Action":"fail","Package":"b","FailedBuild":"b [b.test]"}
`,
		"panic": `{"Action":"output","Package":"b","Test":"TestBoom","Output":"panic: undefined: y\n"}
{"Action":"fail","Package":"b"}
`,
	} {
		got, ok := run(t, in)
		if ok {
			t.Errorf("%s: passed", name)
		}
		wants(t, got, "undefined: y")
	}
	if _, ok := run(t, "not json\n"); ok {
		t.Error("a run of no packages passed")
	}
}
