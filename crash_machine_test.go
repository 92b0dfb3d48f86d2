package bandsox

import (
	"fmt"
	"os"
	"testing"
)

// TestKilledCreatorOfARealMachine does to QEMU what TestKilledCreator does to
// the fake, at the steps where there is a machine, and sees to it that the
// machine did outlive its creator: else there would be nothing to undo.
func TestKilledCreatorOfARealMachine(t *testing.T) {
	for _, at := range []string{"machine", "boot", "running", "deleted"} {
		t.Run(at, func(t *testing.T) {
			cfg, image := realMachines(t, t.TempDir())
			killCreator(t, at, cfg.Storage, image, cfg.Agent)
			left, err := openAny(t.Context(), t.TempDir(), cfg.Agent) // only to look
			if err != nil {
				t.Fatal(err)
			}
			found, err := left.driver.Find(t.Context(), cfg.Storage)
			left.Close()
			if err != nil || len(found) != 1 {
				t.Errorf("machines of the killed creator: %+v %v", found, err)
			}
			m := openReal(t, cfg) // its Open undoes
			undone(t, m)
			nothingLeft(t, cfg.Storage)
			for _, h := range found {
				// One that nobody has waited for has no command line any more.
				if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.PID)); len(b) > 0 {
					t.Errorf("machine %d lives: %q", h.PID, b)
				}
			}
			secondCreate(t, m, image)
		})
	}
}

// TestUpgradeWithARealMachine: QEMU runs on when its manager is killed, and the
// next one runs programs in it; half a pause of it is undone.
func TestUpgradeWithARealMachine(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	killDoing(t, "create to stay", "running", cfg.Storage, image, cfg.Agent)
	killDoing(t, "pause", "pause", cfg.Storage, image, cfg.Agent)
	m := openReal(t, cfg)
	afterKill(t, m, StateRunning, false)
}
