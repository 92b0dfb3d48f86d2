package firecracker

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// exits are Firecracker's exit codes in words.
var exits = map[int]string{
	1:   "it could not go on",
	2:   "an error of its own",
	148: "its filters refused a system call",
	149: "SIGBUS: a file that it maps was cut short, or the host has no memory",
	150: "SIGSEGV: an error of its own",
	151: "SIGXFSZ: a file grew beyond a limit",
	152: "its configuration was refused",
	153: "its arguments were refused",
	154: "SIGXCPU: it used up its processor time",
	155: "SIGPIPE",
	156: "SIGHUP",
	157: "SIGILL: an error of its own",
}

// ending is why the process ended, nil for a guest that ended well: it restarted,
// and its kernel didn't panic.
func (m *machine) ending() error {
	m.mu.Lock()
	killed := m.killed
	m.mu.Unlock()
	code, known := m.exitCode()
	switch {
	case known && code == 0:
		if why := m.console.Panic(); why != "" {
			return errors.New("ended: the guest's kernel panicked: " + why)
		}
		return nil
	case killed:
		return errors.New("was killed")
	}
	return errors.New("ended: " + m.lastWords())
}

// exitCode is how the process ended: as the kernel told us if it was ours, as
// its log has it if it was another's.
func (m *machine) exitCode() (code int, known bool) {
	if state := m.proc.State(); state != nil {
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Exited() {
			return status.ExitStatus(), true
		}
		return 0, false
	}
	all := exitLine.FindAllStringSubmatch(m.log.String(), -1)
	if len(all) == 0 {
		return 0, false
	}
	code, err := strconv.Atoi(all[len(all)-1][1])
	return code, err == nil
}

var exitLine = regexp.MustCompile(`exit_code=(\d+)`)

// lastWords is what there is to say of a Firecracker that went by itself.
func (m *machine) lastWords() string {
	var s string
	code, known := m.exitCode()
	switch {
	case known:
		s = fmt.Sprintf("Firecracker ended with exit code %d", code)
		if words := exits[code]; words != "" {
			s += " (" + words + ")"
		}
	case m.proc.State() != nil:
		s = "Firecracker ended: " + m.proc.State().String()
	default:
		s = "Firecracker ended, and its exit status went to the process that had started it"
	}
	if words := complaints(m.log.String()); words != "" {
		s += ": " + words
	}
	return s
}

var (
	logHead = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ \[[^\]]*\] ?`)
	// What it says of every request, and of its own end, is no reason for it.
	logUsual = regexp.MustCompile(`^(Running Firecracker|Listening on API socket|API server started|The API server received|` +
		`The request was executed|Successfully started microvm|Firecracker exiting|Vmm is stopping|` +
		`\[DevPreview\]|Artificially kick|\S+ request took|'[a-z ]+' API request took|RunWithApiError|Error: )`)
)

// complaints are the last few lines of the log that aren't in every one.
func complaints(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(logHead.ReplaceAllString(strings.ToValidUTF8(line, "?"), ""))
		if line == "" || logUsual.MatchString(line) {
			continue
		}
		lines = append(lines, line[:min(len(line), 300)])
	}
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}
