package guest

import (
	"fmt"
	"sync/atomic"
	"time"
)

// vigilEvery is how long a boot may take before the console is told where it
// is. A host that waits for an answer shows the console when it gives up.
const vigilEvery = 15 * time.Second

// vigil watches over the way to the first hello. A guest that hangs there says
// nothing to its host: the console is the only place to say it.
type vigil struct {
	step    atomic.Pointer[string]
	greeted atomic.Bool
}

// at says what is being done now.
func (v *vigil) at(step string) { v.step.Store(&step) }

// run logs until there has been a hello.
func (v *vigil) run(log func(msg string), tick <-chan time.Time) {
	for since := time.Now(); ; {
		<-tick
		if v.greeted.Load() {
			return
		}
		log(fmt.Sprintf("%v after the start still %s", time.Since(since).Round(time.Second), *v.step.Load()))
	}
}
