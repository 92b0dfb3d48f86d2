package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// screen is a bandsox on a terminal of its own: what a person sees and types.
type screen struct {
	*running
	keys   *os.File
	before unix.Termios
}

func (l *lab) screen(t *testing.T, args ...string) *screen {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	s := &screen{running: &running{Cmd: l.command(args...)}, keys: keys}
	s.Stdin, s.Stdout, s.Stderr = tty, tty, tty
	s.Env = append(s.Env, "TERM=vt220")
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.resize(t, 31, 97)
	s.before = s.modes(t)
	copied := make(chan struct{})
	t.Cleanup(func() {
		tty.Close()
		keys.Close()
		<-copied
	})
	go func() {
		defer close(copied)
		b := make([]byte, 4096)
		for {
			n, err := keys.Read(b)
			if err != nil {
				return
			}
			s.out.Write(b[:n])
		}
	}()
	s.begin(t)
	return s
}

func (s *screen) resize(t *testing.T, rows, cols uint16) {
	t.Helper()
	if err := pty.Setsize(s.keys, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		t.Fatal(err)
	}
}

func (s *screen) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// modes are the terminal's, which both its ends share.
func (s *screen) modes(t *testing.T) unix.Termios {
	t.Helper()
	modes, err := unix.IoctlGetTermios(int(s.keys.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *modes
}

// lent: the terminal passes every key on.
func (s *screen) lent(t *testing.T) {
	t.Helper()
	if s.modes(t).Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Error("the terminal is not in raw mode while a program has it")
	}
}

// restored: the terminal is as it was before.
func (s *screen) restored(t *testing.T) {
	t.Helper()
	if now := s.modes(t); now != s.before {
		t.Errorf("the terminal is not as it was: %+v, was %+v", now, s.before)
	}
}

// TestTerminal is a person's session: a prompt, sizes, Ctrl-C, the end.
func TestTerminal(t *testing.T) {
	l := newLab(t)
	s := l.screen(t, "run", "-it", l.image, "sh")
	s.says(t, "# ")
	if got := s.out.String(); strings.Contains(got, " / 0") || strings.Contains(got, " of 0") {
		t.Errorf("progress of how much of nothing: %q", got)
	}
	s.lent(t)
	s.types(t, "echo size $(stty size) $TERM; test -t 0 && test -t 1 && echo tty\r")
	s.says(t, "size 31 97 vt220\r\ntty\r\n")
	s.types(t, `sh -c 'trap "echo resized \$(stty size); exit" WINCH; echo trap""ped; while :; do sleep 1; done'`+"\r")
	s.says(t, "trapped\r\n")
	s.resize(t, 43, 121)
	s.says(t, "resized 43 121\r\n")
	// Ctrl-C is the guest's: the sleep ends, the shell and we do not.
	s.types(t, "echo slee''ping; sleep 600\r")
	s.says(t, "sleeping\r\n")
	s.types(t, "\x03")
	s.types(t, "echo code $?\r")
	s.says(t, "code 130\r\n")
	s.types(t, "exit 9\r")
	s.ends(t, inTime, 9)
	s.restored(t)
	l.nothingLeft(t)
}

// TestTerminalRestored: however a session ends, its terminal can be used after.
func TestTerminalRestored(t *testing.T) {
	l := newLab(t)
	session := func(t *testing.T) *screen {
		s := l.screen(t, "run", "-it", l.image, "sh", "-c", "trap 'echo ign''ored' INT; echo read''y; while :; do sleep 1; done")
		s.says(t, "ready\r\n")
		s.lent(t)
		return s
	}
	t.Run("guest killed", func(t *testing.T) {
		s := session(t)
		pids := l.machines()
		if len(pids) != 1 {
			t.Fatalf("machines: %v", pids)
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.ends(t, atOnce, exitError)
		s.restored(t)
		s.says(t, "error: ")
		l.nothingLeft(t)
	})
	t.Run("second signal", func(t *testing.T) {
		s := session(t)
		s.signal(t, syscall.SIGINT)
		s.says(t, "ignored\r\n")
		s.signal(t, syscall.SIGINT)
		s.ends(t, atOnce, 130)
		s.restored(t)
		l.noMachineLeft(t)
	})
	t.Run("hung up", func(t *testing.T) {
		s := l.screen(t, "run", "-it", l.image, "sh")
		s.says(t, "# ")
		s.signal(t, syscall.SIGHUP)
		s.ends(t, inTime, 128+int(syscall.SIGHUP))
		s.restored(t)
		l.nothingLeft(t)
	})
	t.Run("Ctrl-C while booting", func(t *testing.T) {
		s := l.screen(t, "run", "-it", l.image, "sh")
		wait(t, "a machine", func() bool { return len(l.machines()) > 0 })
		s.types(t, "\x03")
		s.ends(t, atOnce, 130)
		s.restored(t)
		l.nothingLeft(t)
	})
}

// TestTerminalNeedsOne: -t with a pipe for input is refused before anything is made.
func TestTerminalNeedsOne(t *testing.T) {
	cmd := (&lab{env: append(os.Environ(), "BANDSOX_STORAGE="+t.TempDir())}).command("run", "-it", "none")
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	if code := exitOf(t, err); code != exitError || !strings.Contains(string(out), "not a terminal") {
		t.Errorf("exit code %d, output %s", code, strconv.Quote(string(out)))
	}
}

// TestTerminalEndsAtSIGTERM, of which a shell takes no heed, and leaves our
// terminal as it was.
func TestTerminalEndsAtSIGTERM(t *testing.T) {
	l := newFake(t)
	l.says(t, "create", "--name", "box", l.image)
	s := l.screen(t, "terminal", "box")
	s.types(t, "trap '' TERM; echo read''y\r")
	s.says(t, "ready\r\n")
	s.lent(t)
	s.signal(t, syscall.SIGTERM)
	s.ends(t, inTime, 128+int(syscall.SIGTERM))
	s.restored(t)
}
