package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProcess: a process is killed and reaped; a number alone adopts nobody.
func TestProcess(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	// One that we inherited, say, from a shell that holds a lock by it.
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	p, err := StartProcess([]string{"/bin/sleep", "1000"}, t.TempDir(), []*os.File{null, null, null}, nil)
	if err != nil {
		t.Skipf("needs /bin/sleep: %v", err)
	}
	defer p.Kill()
	if _, err := FindProcess(p.PID, p.Start+1); err == nil {
		t.Error("found a process that started at another time")
	}
	other, err := FindProcess(p.PID, p.Start)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.Readlink(ProcPath(os.Getpid(), fmt.Sprintf("fd/%d", pipe[1])))
	if err != nil {
		t.Fatal(err)
	}
	fds, err := filepath.Glob(ProcPath(p.PID, "fd/*"))
	if err != nil || len(fds) == 0 {
		t.Fatalf("its descriptors: %v, %v", fds, err)
	}
	for _, fd := range fds {
		if theirs, _ := os.Readlink(fd); theirs == ours {
			t.Errorf("it inherited %s", theirs)
		}
	}
	if err := other.Kill(); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if state := p.State(); state == nil || state.Success() {
		t.Errorf("state %v", state)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing the dead: %v", err)
	}
	if _, err := FindProcess(p.PID, p.Start); err == nil {
		t.Error("found the dead")
	}
}
