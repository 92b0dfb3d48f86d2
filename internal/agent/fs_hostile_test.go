package agent_test

import (
	"context"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

// sends is a guest that answers with these bytes and then what is left.
func sends(t *testing.T, b []byte, last wire.Control) error {
	t.Helper()
	c := hostile(t, func(st *wire.Stream) {
		st.Send(wire.KindData, b)
		st.SendControl(last)
		st.CloseSend()
	})
	for _, err := range c.Find(context2(t), wire.FindRequest{Path: "/", Depth: 1}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestHostileFind: what a guest sends that was not asked for is an error.
func TestHostileFind(t *testing.T) {
	rec := func(r wire.Record) []byte { return wire.AppendRecord(nil, &r) }
	good := rec(wire.Record{Stat: &wire.Stat{Path: "a", Type: "file"}})
	done := wire.Control{Done: &wire.Done{}}
	if err := sends(t, good, done); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"outside":      rec(wire.Record{Stat: &wire.Stat{Path: "../../etc/passwd", Type: "file"}}),
		"absolute":     rec(wire.Record{Stat: &wire.Stat{Path: "/etc/passwd", Type: "file"}}),
		"deeper":       rec(wire.Record{Stat: &wire.Stat{Path: "a/b", Type: "file"}}),
		"another kind": rec(wire.Record{Line: &wire.Line{Number: 1}}),
		"half":         good[:len(good)-1],
		"huge":         {0xff, 0xff, 0xff, 0x7f, 's'},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, sends(t, b, done), wire.Internal, "") })
	}
	wantCode(t, sends(t, good, wire.Control{Stat: &wire.Stat{}}), wire.Internal, "not asked for")
}

// TestEndlessFind: a guest that never stops is left when the loop is, or ctx ends.
func TestEndlessFind(t *testing.T) {
	many := wire.AppendRecord(nil, &wire.Record{Stat: &wire.Stat{Path: "a", Type: "file"}})
	for len(many) < wire.MaxData {
		many = append(many, many...)
	}
	c := hostile(t, func(st *wire.Stream) {
		for st.Send(wire.KindData, many) == nil {
		}
	})
	n := 0
	for _, err := range c.Find(context2(t), wire.FindRequest{Path: "/"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 100_000 {
			break
		}
	}
	ctx, cancel := context.WithCancel(context2(t))
	defer cancel()
	var last error
	for _, last = range c.Find(ctx, wire.FindRequest{Path: "/"}) {
		if n++; n == 200_000 {
			cancel()
		}
	}
	wantCode(t, last, wire.Unavailable, "cancel")
}

// TestHostileLines: lines that are not those asked for, or too many.
func TestHostileLines(t *testing.T) {
	line := func(n int64, text string) []byte {
		return wire.AppendRecord(nil, &wire.Record{Line: &wire.Line{Number: n, Text: text}})
	}
	for name, c := range map[string]struct {
		b    []byte
		code wire.Code
	}{
		"earlier": {line(1, "x"), wire.Internal},
		"later":   {line(4, "x"), wire.Internal},
		"fewer":   {nil, wire.Unavailable}, // it ended without saying so
		"more":    {append(line(3, "x"), line(4, "y")...), wire.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			client := hostile(t, func(st *wire.Stream) { st.Send(wire.KindData, c.b) })
			_, _, err := client.Lines(context2(t), wire.LinesRequest{Path: "f", Offset: 2, Limit: 1})
			wantCode(t, err, c.code, "")
		})
	}
	if testing.Short() {
		return // 64 MiB take long with the race detector
	}
	endless := hostile(t, func(st *wire.Stream) {
		big := string(make([]byte, wire.MaxLine))
		for n := int64(1); st.Send(wire.KindData, line(n, big)) == nil; n++ {
		}
	})
	_, _, err := endless.Lines(context2(t), wire.LinesRequest{Path: "f"})
	wantCode(t, err, wire.Exhausted, "64 MiB")
}
