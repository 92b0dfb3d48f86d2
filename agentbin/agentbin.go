// Package agentbin carries the guest agent inside the binary that uses it.
// `make` and releases build the agent into this folder first; a plain
// `go build` in a fresh clone finds only the placeholder and carries none, and
// the agent is then looked for beside the program.
package agentbin

import "embed"

//go:embed bandsox-agent*
var files embed.FS

// Agent returns the agent's static binary for arch (a GOARCH), and whether it
// was there when this program was built.
func Agent(arch string) ([]byte, bool) {
	b, err := files.ReadFile("bandsox-agent-" + arch)
	return b, err == nil
}
