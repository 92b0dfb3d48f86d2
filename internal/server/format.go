package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// jsonFormat is how bodies are read and written. JSON knows no whole numbers
// beside others: 2.0 is one, as Python and JavaScript may write it.
var jsonFormat = huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: func(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && strings.HasPrefix(kind.Value, "number ") {
		return json.Unmarshal(wholeNumbers(b), v)
	}
	return err
}}

// wholeNumbers is the JSON b with 2.0 and 2e0 written as 2. Its texts stay as
// they are: a lone surrogate in one would not survive another reading.
func wholeNumbers(b []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out []byte
	done := int64(0)
	for {
		t, err := d.Token()
		if err != nil {
			return append(out, b[done:]...)
		}
		n, ok := t.(json.Number)
		if !ok || !strings.ContainsAny(n.String(), ".eE") {
			continue
		}
		// Beyond 1<<53 a float is no longer one whole number.
		if f, err := n.Float64(); err == nil && f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
			end := d.InputOffset()
			out = append(out, b[done:end-int64(len(n))]...)
			out = strconv.AppendInt(out, int64(f), 10)
			done = end
		}
	}
}
