package bandsox_test

import (
	"log/slog"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/contract"
)

// TestContract is the suite that the client of a server is held to as well.
func TestContract(t *testing.T) {
	t.Parallel()
	contract.Run(t, func(t *testing.T) contract.House {
		m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: t.TempDir(), Driver: "process", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return contract.Library(m)
	})
}
