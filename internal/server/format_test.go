package server

import (
	"encoding/json"
	"testing"
)

func TestWholeNumbers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a":2.0,"b":[-3e2, 1.5,"4.0"],"c":7}`: `{"a":2,"b":[-300, 1.5,"4.0"],"c":7}`,
		`{"p":"\udc80 1.0","n":1E1}`:            `{"p":"\udc80 1.0","n":10}`,
		`[1e300, 0.0, -0.0]`:                    `[1e300, 0, 0]`,
		`2.0`:                                   `2`,
	} {
		if got := string(wholeNumbers([]byte(in))); got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s, not %s", in, got, want)
		}
	}
}

// TestIntegralBody has 2.0 for a whole number, and 2.5 for none.
func TestIntegralBody(t *testing.T) {
	t.Parallel()
	var body struct{ Mode uint32 }
	if err := jsonFormat.Unmarshal([]byte(`{"mode":420.0}`), &body); err != nil || body.Mode != 420 {
		t.Errorf("%+v %v", body, err)
	}
	if err := jsonFormat.Unmarshal([]byte(`{"mode":420.5}`), &body); err == nil {
		t.Error("420.5 was taken")
	}
}
