package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/store"
)

func newAuth(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "auth", Short: "Manage the password and the API keys of a server",
		Long: `Manage the password and the API keys of a server. They are in the state
directory: no server needs to run, and one that does sees changes at once.

Until "bandsox auth init" there are none, and a server lets in whoever is on
this machine.`,
	}
	return group(cmd, newAuthInit(a), newAuthPassword(a), newAuthCreate(a), newAuthList(a), newAuthRevoke(a))
}

// authStore is the auth file of the state directory.
func (a *app) authStore() (*auth.Store, error) {
	dir := a.storage
	if dir == "" {
		var err error
		if dir, err = store.DefaultDir(); err != nil {
			return nil, err
		}
	}
	return auth.Open(store.Layout(dir).Auth()), nil
}

// withAuth runs f with the auth file, and makes its errors ours.
func (a *app) withAuth(f func(*auth.Store) error) error {
	s, err := a.authStore()
	if err == nil {
		err = f(s)
	}
	var e *auth.Error
	if errors.As(err, &e) {
		return &bandsox.Error{Code: e.Code, Err: err, Hint: e.Hint}
	}
	return err
}

func newAuthInit(a *app) *cobra.Command {
	var fromStdin, save, asJSON bool
	cmd := &cobra.Command{
		Use: "init", Short: "Turn authentication on: make a password and a first key, and print both once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAuth(func(s *auth.Store) error {
				on, err := s.Enabled()
				if err != nil {
					return err
				}
				if on && asJSON {
					return writeJSON(os.Stdout, map[string]bool{"already": true})
				} else if on {
					fmt.Println(auth.ErrEnabled)
					return nil
				}
				password := ""
				if fromStdin {
					if password, err = passwordFrom(os.Stdin); err != nil {
						return err
					}
				}
				made, err := s.Init(cmd.Context(), password)
				if err != nil {
					return err
				}
				if asJSON {
					if err := writeJSON(os.Stdout, made); err != nil {
						return err
					}
				} else {
					fmt.Printf("Authentication enabled. This is shown once:\n\nAdmin password: %s\nAPI key:        %s\nKey ID:         %s\n",
						made.Password, made.Key, made.KeyID)
				}
				return a.offerToSave(cmd, made.Key, save, asJSON)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input instead of making one")
	f.BoolVar(&save, "save", false, "save the key for this command line, without asking; --save=false: don't")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newAuthPassword(a *app) *cobra.Command {
	var fromStdin, asJSON bool
	cmd := &cobra.Command{
		Use: "set-password", Short: "Set a new admin password and end all sessions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAuth(func(s *auth.Store) error {
				if _, err := s.Keys(); err != nil { // before anyone types a password in vain
					return err
				}
				var password string
				var err error
				if fromStdin {
					password, err = passwordFrom(os.Stdin)
				} else {
					password, err = a.askPassword(cmd.Context())
				}
				if err != nil {
					return err
				}
				if err := s.SetPassword(cmd.Context(), password); err != nil {
					return err
				}
				return outcome{Name: "password", Done: "changed"}.say(asJSON, "Password changed. All sessions have ended.")
			})
		},
	}
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

// keyFlags say what a new key may do.
type keyFlags struct {
	scopes, sandboxes []string
	expires           string
	limits            auth.Limits
	mem               sizeMiB
	save, asJSON      bool
}

func newAuthCreate(a *app) *cobra.Command {
	var k keyFlags
	cmd := &cobra.Command{
		Use: "create-key NAME", Short: "Make an API key and print it once", Args: cobra.ExactArgs(1),
		Long: `Make an API key and print it once. Without --scope and --sandbox it may do
everything.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAuth(func(s *auth.Store) error {
				if _, err := s.Keys(); err != nil {
					return err
				}
				o, err := k.options(cmd.Context(), a, args[0])
				if err != nil {
					return err
				}
				made, err := s.CreateKey(cmd.Context(), o)
				if err != nil {
					return err
				}
				if k.asJSON {
					if err := writeJSON(os.Stdout, made); err != nil {
						return err
					}
				} else {
					fmt.Printf("Key created. It is shown once:\n\nAPI key: %s\nKey ID:  %s\n", made.Key, made.KeyID)
				}
				return a.offerToSave(cmd, made.Key, k.save, k.asJSON)
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&k.scopes, "scope", nil, "what it may do: admin (everything), use (make and use sandboxes), read (look); repeatable")
	f.StringArrayVar(&k.sandboxes, "sandbox", nil, "let it do everything with this sandbox (name or id); repeatable")
	f.StringVar(&k.expires, "expires", "", "until when: a time from now (12h, 30d) or a date (2030-12-31)")
	f.IntVar(&k.limits.RatePerMinute, "rate", 0, "requests a minute, at most; 0: no limit")
	f.IntVar(&k.limits.MaxSandboxes, "max-sandboxes", 0, "sandboxes it may have at once; 0: no limit")
	f.IntVar(&k.limits.MaxVCPU, "max-vcpu", 0, "virtual processors of all its sandboxes; 0: no limit")
	f.Var(&k.mem, "max-mem", "memory of all its sandboxes, in MiB, or with a unit; 0: no limit")
	f.BoolVar(&k.save, "save", false, "save the key for this command line, without asking; --save=false: don't")
	f.BoolVar(&k.asJSON, "json", false, "print JSON")
	_ = cmd.RegisterFlagCompletionFunc("sandbox", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeSandboxes(cmd, nil, typed)
	})
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"admin", "use", "read"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (k *keyFlags) options(ctx context.Context, a *app, name string) (auth.KeyOptions, error) {
	o := auth.KeyOptions{Name: name, Limits: k.limits}
	o.Limits.MaxMemMiB = int(k.mem)
	for _, s := range k.scopes {
		o.Scopes = append(o.Scopes, auth.Scope(s))
	}
	for _, ref := range k.sandboxes {
		id, err := a.sandboxID(ctx, ref)
		if err != nil {
			return o, err
		}
		o.Scopes = append(o.Scopes, auth.OnSandbox(id))
	}
	var err error
	if k.expires != "" {
		o.ExpiresAt, err = parseExpiry(k.expires, time.Now())
	}
	return o, err
}

// sandboxID is the id of the sandbox that is meant. One that looks like an id
// is taken as it is: the sandbox may be on its way, or held by a server.
func (a *app) sandboxID(ctx context.Context, ref string) (id string, err error) {
	if store.ValidID(ref) {
		return ref, nil
	}
	err = a.withSandbox(ctx, ref, func(sb *client.Sandbox) error {
		id = sb.ID()
		return nil
	})
	return id, err
}

// parseExpiry reads a time from now, or a date.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if n, ok := strings.CutSuffix(text, "d"); ok {
		if days, err := strconv.Atoi(n); err == nil && days > 0 && days < 1e6 {
			return now.AddDate(0, 0, days), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError("--expires %q: give a time from now (12h, 30d) or a date (2030-12-31)", text)
}

func newAuthList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list-keys", Short: "List the API keys, not the keys themselves", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.withAuth(func(s *auth.Store) error {
				keys, err := s.Keys()
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(os.Stdout, keys)
				}
				t := newTable("ID", "NAME", "SCOPES", "CREATED", "LAST USED", "EXPIRES")
				for _, k := range keys {
					used, expires := "never", "never"
					if k.LastUsedAt != nil {
						used = ago(epoch(*k.LastUsedAt))
					}
					if k.ExpiresAt != nil {
						expires = k.ExpiresAt.Format(time.DateTime + "Z")
					}
					scopes := make([]string, len(k.Scopes))
					for i, sc := range k.Scopes {
						scopes[i] = string(sc)
					}
					t.row(k.ID, k.Name, few(scopes), ago(epoch(k.CreatedAt)), used, expires)
				}
				return t.print(os.Stdout)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func epoch(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

func newAuthRevoke(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "revoke-key KEY_ID", Short: "Take a key's rights away, in a running server too", Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) (ids []string, _ cobra.ShellCompDirective) {
			_ = a.withAuth(func(s *auth.Store) error {
				keys, err := s.Keys()
				for _, k := range keys {
					ids = append(ids, k.ID+"\t"+k.Name)
				}
				return err
			})
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAuth(func(s *auth.Store) error {
				if err := s.RevokeKey(cmd.Context(), args[0]); err != nil {
					return err
				}
				return outcome{Name: args[0], ID: args[0], Done: "revoked"}.say(asJSON, "Key "+args[0]+" revoked.")
			})
		},
	}
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

// offerToSave saves a key for the command line: as --save says, else as the
// user does. Where nobody can be asked it is left.
func (a *app) offerToSave(cmd *cobra.Command, key string, save, quiet bool) error {
	path, err := auth.CredentialsPath()
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("save") {
		if quiet || !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stderr.Fd())) {
			return nil
		}
		fmt.Fprintf(os.Stderr, "\nSave the key to %s? [Y/n] ", path)
		answer, err := await(cmd.Context(), func() (string, error) { return bufio.NewReader(os.Stdin).ReadString('\n') })
		save = err == nil && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "n")
	}
	if !save {
		return nil
	}
	if path, err = auth.SaveKey(key); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Saved to %s.\n", path)
	return nil
}

// await waits for what the user types, or an interrupt.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// passwordFrom reads a password: the first line, without its end.
func passwordFrom(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 1<<16)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", usageError("--password-stdin: standard input has no password")
	}
	return line, nil
}

// askPassword has the user type a new password twice, unseen.
func (a *app) askPassword(ctx context.Context) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", usageError("standard input is not a terminal; to pipe the password in, give --password-stdin")
	}
	if old, err := term.GetState(fd); err == nil {
		restore := func() { _ = term.Restore(fd, old) }
		defer restore() // an interrupt leaves ReadPassword where it is
		defer a.interrupts.onExit(restore)()
	}
	var typed [2]string
	for i, prompt := range []string{"New password: ", "The same again: "} {
		fmt.Fprint(os.Stderr, prompt)
		var err error
		typed[i], err = await(ctx, func() (string, error) {
			b, err := term.ReadPassword(fd)
			return string(b), err
		})
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return "", err
		}
		if typed[i] == "" {
			return "", usageError("no password was typed")
		}
	}
	if typed[0] != typed[1] {
		return "", usageError("the passwords differ; nothing has changed")
	}
	return typed[0], nil
}
