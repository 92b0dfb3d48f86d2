// Bandsox-agent is PID 1 of every sandbox. It is packed into the initramfs and
// runs nowhere else.
package main

import (
	"os"

	"github.com/bandsox/bandsox/internal/agent/guest"
)

func main() { os.Exit(guest.Main()) }
