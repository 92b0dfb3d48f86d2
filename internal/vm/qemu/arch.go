package qemu

// arch is all that differs between host architectures.
type arch struct {
	qemu    string // qemu-system-…
	pack    string // Debian's package of it
	machine string
	cpu     map[string]string // by accelerator
	console string            // early console and the words that every boot needs
	ram     uint64            // the guest's address of its memory
	early   []string          // the serial port that the early console prints to
}
