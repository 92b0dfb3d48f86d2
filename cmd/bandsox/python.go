package main

import (
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// maxCode bounds the code that is read: more is no program.
const maxCode = 64 << 20

func newPython(a *app) *cobra.Command {
	var o bandsox.PythonOptions
	var timeout duration
	var env, envFiles []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "python [flags] SANDBOX [FILE | -c CODE | -] [ARG...]",
		Short: "Run Python code of this machine in a running sandbox",
		Long: `Run Python code of this machine in a running sandbox, with the sandbox's
python3: that of FILE, CODE itself, or that of standard input. Unless the code
comes from there, standard input is the program's. Exit codes are those of bandsox run.`,
		Example: `  bandsox python box job.py one two
  bandsox python box -c 'print(6*7)'
  bandsox python --json --timeout 10s box - <job.py`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			vars, err := parseEnv(envFiles, env)
			if err != nil {
				return err
			}
			if err := checkPlace(o.Dir, o.User); err != nil {
				return err
			}
			o.Env, o.Timeout, o.Args, o.Stdin = envPairs(vars), time.Duration(timeout), args[1:], os.Stdin
			code, err := pythonCode(&o)
			if err != nil {
				return err
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				if asJSON {
					r := sb.PythonCapture(cmd.Context(), code, o)
					if err := writeJSON(os.Stdout, r); err != nil {
						return err
					}
					return exitCode(pythonExit(r))
				}
				o.Stdout, o.Stderr = os.Stdout, os.Stderr
				return sb.Python(cmd.Context(), code, o)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Dir, "workdir", "w", "", "directory to run it in (default the image's)")
	f.StringVarP(&o.User, "user", "u", "", "run it as NAME, UID, NAME:GROUP or UID:GID (default the image's)")
	f.StringArrayVarP(&env, "env", "e", nil, "KEY=VALUE, or KEY to pass this one on; repeatable")
	f.StringArrayVar(&envFiles, "env-file", nil, "file of KEY=VALUE lines; repeatable")
	f.Var(&timeout, "timeout", "end it, and all it started, after this long: 30s, 5m; exit code 124")
	f.StringArrayVarP(&o.Packages, "package", "p", nil, "package to install first; repeatable (needs a network, which sandboxes don't have yet)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object with its output and exit code")
	f.SetInterspersed(false) // what follows the file is the program's own
	return cmd
}

// pythonCode takes the code from the arguments, or from where they say, and
// leaves the rest of them to it.
func pythonCode(o *bandsox.PythonOptions) (string, error) {
	name := "-"
	if len(o.Args) > 0 {
		name, o.Args = o.Args[0], o.Args[1:]
	}
	from := io.Reader(os.Stdin)
	switch name {
	case "-c":
		if len(o.Args) == 0 {
			return "", usageError("-c: no code given")
		}
		code := o.Args[0]
		o.Args = o.Args[1:]
		return code, nil
	case "-":
		o.Stdin, o.Filename = nil, "<stdin>"
	default:
		f, err := os.Open(name)
		if err != nil {
			return "", usageError("%w", err)
		}
		defer f.Close()
		from, o.Filename = f, filepath.Base(name)
	}
	b, err := io.ReadAll(io.LimitReader(from, maxCode+1))
	if err == nil && len(b) > maxCode {
		err = usageError("%s: more than %d MiB of code", name, maxCode>>20)
	}
	return string(b), err
}

// pythonExit is the exit code of a result.
func pythonExit(r bandsox.PythonResult) int {
	switch {
	case r.TimedOut:
		return exitTimeout
	case r.Code == bandsox.CodeNotFound:
		return exitNotFound
	case r.ExitCode < 0:
		return exitError
	}
	return r.ExitCode
}
