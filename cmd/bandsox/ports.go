package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newProxy(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "proxy SANDBOX PORT", Short: "Connect standard input and output to a port in a sandbox", Args: cobra.ExactArgs(2),
		Long: `Connect standard input and output to a TCP port in a sandbox, through its agent:
it takes no network. It is what ssh wants as a ProxyCommand.`,
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := parsePort(args[1])
			if err != nil {
				return err
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				conn, err := sb.Dial(cmd.Context(), port)
				if err != nil {
					return err
				}
				defer conn.Close()
				defer context.AfterFunc(cmd.Context(), func() { conn.Close() })()
				go func() {
					_, _ = io.Copy(conn, os.Stdin)
					closeWrite(conn)
				}()
				_, err = io.Copy(os.Stdout, conn)
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				return err
			})
		},
	}
}

// closeWrite ends one direction of a connection.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, usageError("port %q: must be from 1 to 65535", s)
	}
	return int(n), nil
}

// forward is a port of this machine that leads to one in a sandbox.
type forward struct {
	local string // HOST:PORT
	port  int
}

// parseForward reads [[HOST:]LOCAL:]PORT.
func parseForward(s, host string) (f forward, err error) {
	local := ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		local, s = s[:i], s[i+1:]
	}
	if f.port, err = parsePort(s); err != nil {
		return f, err
	}
	switch i := strings.LastIndexByte(local, ':'); {
	case local == "":
		local = s
	case i >= 0:
		host, local = strings.Trim(local[:i], "[]"), local[i+1:]
	}
	if local == "" || local != "0" {
		if _, err := parsePort(local); err != nil {
			return f, err
		}
	}
	f.local = net.JoinHostPort(host, local)
	return f, nil
}

func newPortForward(a *app) *cobra.Command {
	var address string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "port-forward SANDBOX [[HOST:]LOCAL:]PORT...", Short: "Let ports of this machine lead to ports in a sandbox", Args: cobra.MinimumNArgs(2),
		Long: `Let ports of this machine lead to TCP ports in a sandbox, until Ctrl-C. It takes
no network in the sandbox. LOCAL may be 0: any port that is free; it is printed.`,
		Example: `  bandsox port-forward box 8080          localhost:8080 is port 8080 of box
  bandsox port-forward box 9000:80 0:22`,
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []forward
			for _, arg := range args[1:] {
				f, err := parseForward(arg, address)
				if err != nil {
					return err
				}
				list = append(list, f)
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error { return forwardAll(cmd.Context(), sb, list, asJSON) })
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1", "address of this machine to listen on")
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

func forwardAll(ctx context.Context, sb *client.Sandbox, list []forward, asJSON bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	for _, f := range list {
		l, err := net.Listen("tcp", f.local)
		if err != nil {
			cancel()
			return &bandsox.Error{Code: bandsox.CodeUnavailable, Op: "port-forward", ID: sb.ID(), Err: err, Hint: "0:" + strconv.Itoa(f.port) + " takes a port that is free"}
		}
		context.AfterFunc(ctx, func() { l.Close() })
		if asJSON {
			err = writeLine(map[string]any{"local": l.Addr().String(), "port": f.port})
		} else {
			_, err = fmt.Printf("Forwarding %s to port %d\n", l.Addr(), f.port)
		}
		if err != nil {
			cancel()
			return err
		}
		all.Go(func() { accept(ctx, sb, l, f.port, &all) })
	}
	<-ctx.Done()
	return ctx.Err()
}

func accept(ctx context.Context, sb *client.Sandbox, l net.Listener, port int, all *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			guest, err := sb.Dial(ctx, port)
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					report(os.Stderr, err)
				}
				return
			}
			defer guest.Close()
			defer context.AfterFunc(ctx, func() { guest.Close() })()
			var one sync.WaitGroup
			one.Go(func() {
				_, _ = io.Copy(guest, c)
				closeWrite(guest)
			})
			_, _ = io.Copy(c, guest)
			closeWrite(c)
			one.Wait()
		})
	}
}

func newSSHConfig(a *app) *cobra.Command {
	var user string
	var port int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "ssh-config SANDBOX", Short: "Print what ssh needs to reach an SSH server in a sandbox", Args: cobra.ExactArgs(1),
		Long: `Print what ssh needs to reach an SSH server that runs in a sandbox. The image
must have one; no network is needed.`,
		Example:           "  bandsox ssh-config box >>~/.ssh/config && ssh box",
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if port < 1 || port > 65535 {
				return usageError("--ssh-port %d: must be from 1 to 65535", port)
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				info, err := sb.Info(cmd.Context())
				if err != nil {
					return err
				}
				self, err := executable()
				if err != nil {
					return err
				}
				name := info.Name
				if name == "" {
					name = info.ID
				}
				proxy := fmt.Sprintf("%s proxy %s %d", strings.Join(append([]string{shellQuote(self)}, a.addressFlags()...), " "), info.ID, port)
				if asJSON {
					return writeJSON(os.Stdout, map[string]string{"host": name, "hostname": info.ID, "user": user, "host_key_alias": info.ID, "proxy_command": proxy})
				}
				_, err = fmt.Printf("Host %s\n  HostName %s\n  User %s\n  HostKeyAlias %s\n  ProxyCommand %s\n", name, info.ID, user, info.ID, proxy)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "root", "user to log in as")
	cmd.Flags().IntVar(&port, "ssh-port", 22, "port of the server in the sandbox")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

// addressFlags name the same server again, for a command that is run elsewhere.
func (a *app) addressFlags() (flags []string) {
	if url, err := a.address.remote(); err == nil && url != "" {
		flags = append(flags, "--url", shellQuote(url))
		if a.address.ca != "" {
			flags = append(flags, "--tls-ca", shellQuote(absolute(a.address.ca)))
		}
		if a.address.fingerprint != "" {
			flags = append(flags, "--tls-fingerprint", shellQuote(a.address.fingerprint))
		}
		return flags
	}
	if dir, err := a.stateDir(); err == nil {
		flags = append(flags, "--storage", shellQuote(dir.Dir()))
	}
	return flags
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@=+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
