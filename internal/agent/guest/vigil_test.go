package guest

import (
	"strings"
	"testing"
	"time"
)

// A boot that hangs says where, until somebody says hello.
func TestVigil(t *testing.T) {
	var v vigil
	v.at("mounting")
	tick, lines := make(chan time.Time), make(chan string, 1)
	done := make(chan struct{})
	go func() { defer close(done); v.run(func(s string) { lines <- s }, tick) }()
	for _, step := range []string{"mounting", "waiting"} {
		v.at(step)
		tick <- time.Time{}
		if line := <-lines; !strings.HasSuffix(line, "still "+step) {
			t.Errorf("while %s it says %q", step, line)
		}
	}
	v.greeted.Store(true)
	tick <- time.Time{}
	<-done
}
