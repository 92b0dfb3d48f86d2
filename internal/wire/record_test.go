package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var hardTexts = []string{
	"", "plain", "ü€\U0001f600", "\xff", "a\xffb", "\x80\xbf", "\xed\xb2\x80", "\xf0\x9f\x98", "q\"\\/\n\x00<>&", `\udcff`, "\xff\\u", "\u2028\xfe",
}

// TestText: bytes come back, and what is text is the same JSON as a string's.
func TestText(t *testing.T) {
	check := func(t *rapid.T, s string) {
		b, err := json.Marshal(Text(s))
		if err != nil {
			t.Fatal(err)
		}
		var back Text
		if err := json.Unmarshal(b, &back); err != nil || string(back) != s {
			t.Errorf("%q: %s: %q %v", s, b, back, err)
		}
		if plain, _ := json.Marshal(s); strings.ToValidUTF8(s, "") == s && string(plain) != string(b) {
			t.Errorf("%q: %s, as a string %s", s, b, plain)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, s := range hardTexts {
			check(t, s)
		}
		check(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
		check(t, rapid.String().Draw(t, "text"))
	})
	for in, want := range map[string]string{
		`"\udcff"`: "\xff", `"\uDCfF"`: "\xff", `"\ud83d\ude00"`: "\U0001f600", `"\ud83d\udc80"`: "\U0001f480", `"\\udcff"`: `\udcff`, `"\udc7f"`: "\ufffd", `"\ud83d\ud83d\udc80"`: "\ufffd\U0001f480",
		`null`: "",
	} {
		var got Text
		if err := json.Unmarshal([]byte(in), &got); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", in, got, err)
		}
	}
	var got Text
	if err := json.Unmarshal([]byte("7"), &got); err == nil {
		t.Error("a number is no text")
	}
}

// TestLosslessJSON: no type that holds paths or lines loses a byte, or a field.
func TestLosslessJSON(t *testing.T) {
	const odd = "a\xff\n\xf0"
	now := time.Unix(1700000000, 5).UTC()
	for _, v := range []any{
		&Stat{Path: odd, Type: "symlink", Size: 1, Mode: 2, UID: 3, GID: 4, Mtime: now, Target: odd, Inode: 6},
		&Match{Path: odd, Line: 1, Text: odd, Cut: true, Start: 4, Before: []string{odd, ""}, After: []string{odd}},
		&Line{Number: 7, Text: odd, Cut: true},
		&FileEvent{Path: odd, From: odd, Op: FileRenamed, Dir: true, Time: now},
		&Request{Op: OpStat, Stat: &StatRequest{Path: odd}},
		&Request{Op: OpRead, Read: &ReadRequest{Path: odd, Offset: 1, Length: 2}},
		&Request{Op: OpWrite, Write: &WriteRequest{Path: odd, Mode: 1, User: "u", Parents: true, Append: true, Partial: "p"}},
		&Request{Op: OpTreeRead, Tree: &TreeRequest{Path: odd, Follow: true, User: "u"}},
		&Request{Op: OpTreeRead, Tree: &TreeRequest{Path: "plain"}},
		&Request{Op: OpFind, Find: &FindRequest{Path: odd, Include: []Text{odd}}},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back := fresh(v)
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if d := cmp.Diff(v, back); d != "" {
			t.Errorf("%s: %s", b, d)
		}
	}
}

func fresh(v any) any {
	switch v.(type) {
	case *Stat:
		return new(Stat)
	case *Match:
		return new(Match)
	case *Line:
		return new(Line)
	case *FileEvent:
		return new(FileEvent)
	}
	return new(Request)
}

var sampleRecords = []Record{
	{Stat: &Stat{Path: ".", Type: "dir", Mode: 0o1777, UID: 1, GID: 2, Mtime: time.Unix(-1, 999).UTC()}},
	{Stat: &Stat{Path: "a/b\xff\n", Type: "symlink", Size: 1 << 40, Mode: 0o777, Inode: 9, Mtime: time.Unix(1<<33, 0).UTC(), Target: "../x"}},
	{Match: &Match{Path: "a", Line: 3, Text: "needle", Before: []string{"x", ""}, After: []string{"y"}}},
	{Match: &Match{Path: "a", Line: 1, Text: strings.Repeat("n", MaxLine), Cut: true, Start: 1 << 20}},
	{Line: &Line{Number: 1, Text: "text", Cut: true}},
	{Event: &FileEvent{Path: "new", From: "old", Op: FileRenamed, Dir: true, Time: time.Unix(5, 6).UTC()}},
	{Event: &FileEvent{Path: ".", Op: FileOverflow, Time: time.Unix(5, 6).UTC()}},
	{Failed: &Failure{Path: "d", Err: &Error{Code: Denied, Message: "no"}}},
}

func TestRecords(t *testing.T) {
	var b []byte
	for i := range sampleRecords {
		b = AppendRecord(b, &sampleRecords[i])
	}
	for _, want := range sampleRecords {
		got, n, err := ParseRecord(b)
		if err != nil || n > len(b) {
			t.Fatal(n, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		for k := range min(n, 100) {
			if _, more, err := ParseRecord(b[:k]); err != nil || more <= k {
				t.Fatalf("of %d bytes: %d %v", k, more, err)
			}
		}
		b = b[n:]
	}
	if len(b) > 0 {
		t.Errorf("%d bytes left", len(b))
	}
}

// TestHostileRecords: what names another place, or claims too much, is refused.
func TestHostileRecords(t *testing.T) {
	for _, p := range []string{"", "/", "/etc", "..", "../x", "a/..", "a//b", "a/", "./a", "a\x00", strings.Repeat("n", 256), strings.Repeat("n/", 2100) + "n"} {
		for _, r := range []Record{{Stat: &Stat{Path: p, Type: "file"}}, {Match: &Match{Path: p, Line: 1}}, {Event: &FileEvent{Path: p, Op: FileCreated}}, {Failed: &Failure{Path: p, Err: &Error{}}}} {
			if _, _, err := ParseRecord(AppendRecord(nil, &r)); CodeOf(err) != Internal || err == nil {
				t.Errorf("%.20q: %v", p, err)
			}
		}
	}
	for name, r := range map[string]Record{
		"line 0":       {Match: &Match{Path: "a"}},
		"line -1":      {Line: &Line{Number: -1}},
		"long text":    {Line: &Line{Number: 1, Text: strings.Repeat("x", MaxLine+1)}},
		"long context": {Match: &Match{Path: "a", Line: 1, Before: []string{strings.Repeat("x", MaxContext+1)}}},
		"much context": {Match: &Match{Path: "a", Line: 1, After: make([]string, MaxAround+1)}},
		"big mode":     {Stat: &Stat{Path: "a", Type: "file", Mode: 0o10000}},
		"size":         {Stat: &Stat{Path: "a", Type: "file", Size: -1}},
		"from":         {Event: &FileEvent{Path: "a", From: "../b", Op: FileRenamed}},
		"from nowhere": {Event: &FileEvent{Path: "a", Op: FileRenamed}},
	} {
		if _, _, err := ParseRecord(AppendRecord(nil, &r)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, b := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x00", "\x01\x00\x00\x00?", "\x02\x00\x00\x00s\xff"} {
		if _, _, err := ParseRecord([]byte(b)); err == nil {
			t.Errorf("%q: taken", b)
		}
	}
	r, _, err := ParseRecord(AppendRecord(nil, &Record{Failed: &Failure{Path: "a", Err: &Error{Code: "own", Message: "\x1b[2J"}}}))
	if err != nil || r.Failed.Err.Code != Internal || strings.Contains(r.Failed.Err.Message, "\x1b") {
		t.Errorf("%+v %v", r.Failed, err)
	}
}

func FuzzRecord(f *testing.F) {
	for i := range sampleRecords {
		f.Add(AppendRecord(nil, &sampleRecords[i]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := ParseRecord(b)
		if err != nil || n > len(b) {
			return
		}
		again, _, err := ParseRecord(AppendRecord(nil, &r))
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if d := cmp.Diff(r, again); d != "" {
			t.Fatal(d)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{`"a\udcffb"`, `"\ud83d\udc80"`, `"\`, `"\u12"`, `"\\\udc80"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Text
		if json.Unmarshal(b, &got) != nil {
			return
		}
		out, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var back Text
		if err := json.Unmarshal(out, &back); err != nil || back != got {
			t.Fatalf("%q: %s: %q %v", got, out, back, err)
		}
	})
}
