package store

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Owner is the process that a record belongs to while an operation is under
// way. A pid alone would be somebody else's one day; with the time at which the
// process started it is not.
type Owner struct {
	PID       int
	StartTime uint64
}

// Self is this process.
func Self() Owner {
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		panic(fmt.Sprintf("store: reading this process's start time: %v", err)) // no /proc: nothing of BandSox works
	}
	return Owner{pid, start}
}

// Alive reports whether the process still runs.
func (o Owner) Alive() bool {
	if o.PID == 0 {
		return false
	}
	start, err := startTime(o.PID)
	return err == nil && start == o.StartTime
}

// String is the owner as a file name.
func (o Owner) String() string { return fmt.Sprintf("%d-%d", o.PID, o.StartTime) }

// parseOwner undoes String.
func parseOwner(s string) (o Owner, ok bool) {
	pid, start, ok := strings.Cut(s, "-")
	if !ok {
		return o, false
	}
	var err1, err2 error
	o.PID, err1 = strconv.Atoi(pid)
	o.StartTime, err2 = strconv.ParseUint(start, 10, 64)
	return o, err1 == nil && err2 == nil
}

// startTime reads field 22 of /proc/PID/stat, counted from behind the last
// parenthesis, since the command's name can hold anything.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return 0, fmt.Errorf("reading /proc/%d/stat: %d fields", pid, len(f))
	}
	if f[0][0] == 'Z' {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}
