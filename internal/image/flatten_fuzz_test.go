package image

import (
	"bytes"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

// FuzzFlatten feeds it any bytes as layers: they are invalid, or the result is
// a tar in order that flattens to itself.
func FuzzFlatten(f *testing.F) {
	for _, c := range merges {
		if len(c.layers) == 2 {
			f.Add([]byte(entries(f, c.layers[0])), []byte(entries(f, c.layers[1])))
		}
	}
	f.Add([]byte{}, bytes.Repeat([]byte{0}, 2048))
	lim := Limits{MaxBytes: 8 << 20, MaxEntries: 10000}
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		var out bytes.Buffer
		err := Flatten(t.Context(), []Layer{tarLayer(lower), tarLayer(upper)}, &out, lim)
		if err != nil {
			if code := wire.CodeOf(err); code != wire.Invalid && code != wire.Exhausted {
				t.Error(err)
			}
			return
		}
		read(t, out.Bytes())
		if !bytes.Equal(out.Bytes(), flatten(t, tarLayer(out.Bytes()))) {
			t.Error("flattening it again changes it")
		}
	})
}
