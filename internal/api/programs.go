package api

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/wire"
)

// Program is what to run, and how.
type Program struct {
	Command string   `json:"command,omitempty" doc:"Run by the guest's /bin/sh"`
	Args    []string `json:"args,omitempty" doc:"The program and its arguments, in place of a command"`
	Env     Env      `json:"env,omitempty" doc:"Over the sandbox's and the image's"`
	Dir     string   `json:"cwd,omitempty" doc:"Absolute; default: the image's working directory, else /"`
	User    string   `json:"user,omitempty" doc:"name, uid, name:group or uid:gid; default: the image's user, else root"`
}

// Exec asks for a program that is waited for. Null is as if it weren't there.
type Exec struct {
	_ struct{} `json:"-" additionalProperties:"true"`
	Program
	Stdin   string   `json:"stdin,omitempty" doc:"Its whole input; none: it is empty"`
	Timeout *Seconds `json:"timeout,omitempty" minimum:"0" doc:"Seconds until it is killed, with all that it started; 0: never; default: 30"`
}

// Executed is how a program ended, and what it wrote, as text: what is no UTF-8
// is replaced.
type Executed struct {
	ExitCode int    `json:"exit_code" doc:"128 + the signal's number when a signal ended it"`
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	Signal   int    `json:"signal,omitempty" doc:"The signal that ended it"`
	OOM      bool   `json:"oom,omitempty" doc:"The sandbox's memory did not suffice"`
}

// ExecPython asks for Python code to be run. Null is as if it weren't there.
type ExecPython struct {
	_        struct{} `json:"-" additionalProperties:"true"`
	Code     string   `json:"code"`
	Dir      *string  `json:"cwd,omitempty" doc:"Default: /tmp"`
	Packages []string `json:"packages,omitempty" doc:"To be installed first"`
	Timeout  *Seconds `json:"timeout,omitempty" minimum:"0" doc:"Seconds, for all of it; 0: without end; default: 60"`
	Cleanup  *bool    `json:"cleanup_venv,omitempty" doc:"Of no use: nothing is left behind"`
	Args     []string `json:"args,omitempty" doc:"sys.argv[1:]"`
	Filename string   `json:"filename,omitempty" doc:"What the code calls itself, in tracebacks; default: <python>"`
	Env      Env      `json:"env,omitempty" doc:"Over the sandbox's and the image's"`
	User     string   `json:"user,omitempty" doc:"As in exec"`
	Stdin    string   `json:"stdin,omitempty"`
}

// ExecutedPython is a PythonResult as the reference has it: error is null where
// there is none.
type ExecutedPython struct {
	bandsox.PythonResult
	Error *string `json:"error"`
}

// StartProcess asks for a process that goes on by itself.
type StartProcess struct {
	Program
	TTY     *bandsox.Size `json:"tty,omitempty" doc:"Run it on a terminal of this size"`
	Stdin   bool          `json:"stdin,omitempty" doc:"It has an input that can be written to"`
	Timeout Seconds       `json:"timeout,omitempty" minimum:"0" doc:"Seconds until it is killed, with all that it started; 0: never"`
}

// StartedProcess is a process that runs.
type StartedProcess struct {
	ID  string `json:"id"`
	PID int    `json:"pid" doc:"Its number in the sandbox"`
}

// SignalProcess asks for a signal.
type SignalProcess struct {
	Signal Signal `json:"signal" doc:"A number, or a name: SIGTERM or TERM"`
}

// Ended is how a program ended.
type Ended struct {
	ExitCode int  `json:"exit_code" doc:"128 + the signal's number when a signal ended it"`
	Signal   int  `json:"signal,omitempty" doc:"The signal that ended it"`
	TimedOut bool `json:"timed_out,omitempty" doc:"Its time was over"`
	OOM      bool `json:"oom,omitempty" doc:"The sandbox's memory did not suffice"`
	MemMiB   int  `json:"mem_mib,omitempty" doc:"The sandbox's memory, if the program failed"`
}

// ExitOf is what the error of a wait says of the program's end. It fails with
// err if that is none.
func ExitOf(err error) (Ended, error) {
	var e *bandsox.ExitError
	if errors.As(err, &e) {
		return Ended{ExitCode: e.Code, Signal: int(e.Signal), TimedOut: e.Timeout, OOM: e.OOM, MemMiB: e.MemMiB}, nil
	}
	return Ended{}, err
}

// Err is the error that a wait for the program returns.
func (e Ended) Err() error {
	if e.ExitCode == 0 && e.Signal == 0 && !e.TimedOut {
		return nil
	}
	return &bandsox.ExitError{Code: e.ExitCode, Signal: syscall.Signal(e.Signal), Timeout: e.TimedOut, OOM: e.OOM, MemMiB: e.MemMiB}
}

// Env is an environment: KEY=value each, or an object.
type Env []string

// UnmarshalJSON reads a list or an object.
func (e *Env) UnmarshalJSON(b []byte) error {
	*e = nil
	var list []string
	if json.Unmarshal(b, &list) == nil {
		*e = list
		return nil
	}
	var object map[string]string
	if err := json.Unmarshal(b, &object); err != nil {
		return wire.Errorf(wire.Invalid, "env: must be an object of strings, or a list of KEY=value")
	}
	for k, v := range object {
		if strings.Contains(k, "=") {
			return wire.Errorf(wire.Invalid, "env: %q can't be a variable's name", k)
		}
		*e = append(*e, k+"="+v)
	}
	slices.Sort(*e)
	return nil
}

// longest is the longest time that anything may take here.
const longest = 100 * 365 * 24 * time.Hour

// Limit is how long something may take: s, or what stands for it if it isn't
// given.
func (s *Seconds) Limit(otherwise time.Duration) (time.Duration, error) {
	if s == nil {
		return otherwise, nil
	}
	if !(*s >= 0) {
		return 0, wire.Errorf(wire.Invalid, "timeout %v: must not be negative", *s)
	}
	return min(s.Duration(), longest), nil
}
