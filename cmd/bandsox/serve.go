package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
	"github.com/bandsox/bandsox/internal/store"
)

const defaultPort = 8000

// serveFlags say where and how a server listens.
type serveFlags struct {
	host       string
	port       int
	socketOnly bool
	insecure   bool
	tls        bool
	cert, key  string
	hosts      []string
	origins    []string
	domain     string
	proxied    bool
	idleExit   time.Duration
	logFile    string

	install, uninstall, printUnit, user, stop bool

	asJSON bool
}

func newServe(a *app) *cobra.Command {
	var s serveFlags
	var reload bool
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve the API and the dashboard", Args: cobra.NoArgs,
		Long: `Serve the API and the dashboard, as the one owner of the state directory.

Until there are keys (bandsox auth init) it listens on this machine only, then
everywhere. It also listens on server.sock in the state directory: who may open
that needs no key. Ctrl-C ends it when what is being answered has had ten
seconds to end; sandboxes go on, and the next server finds them.

With --install it is started by systemd with the machine.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.stop {
				return a.stopServer(cmd.Context(), s.asJSON)
			}
			if s.install || s.uninstall || s.printUnit {
				return a.unit(cmd, s)
			}
			return asOurs(a.serve(cmd.Context(), s))
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.host, "host", "", "address to listen on (default 127.0.0.1 until there are keys, then 0.0.0.0)")
	f.IntVar(&s.port, "port", defaultPort, "port to listen on; 0: any that is free")
	f.BoolVar(&s.socketOnly, "socket-only", false, "listen only on the socket in the state directory")
	f.BoolVar(&s.insecure, "insecure", false, "without keys, let other machines in too")
	f.BoolVar(&s.tls, "tls", false, "speak TLS with a certificate of its own making, whose fingerprint is printed")
	f.StringVar(&s.cert, "tls-cert", "", "speak TLS with the certificate chain in this PEM file; it is read again when it changes")
	f.StringVar(&s.key, "tls-key", "", "the certificate's key, in PEM")
	f.StringArrayVar(&s.hosts, "allow-host", nil, "a name that this server is called by, or *.NAME; repeatable")
	f.StringArrayVar(&s.origins, "allow-origin", nil, "another site whose pages may call the API with a key, as https://example.com; repeatable")
	f.StringVar(&s.domain, "domain", "", "servers in sandboxes are at PORT-ID.DOMAIN (default localhost)")
	f.BoolVar(&s.proxied, "behind-tls-proxy", false, "a proxy in front speaks TLS: cookies are for https only")
	f.DurationVar(&s.idleExit, "idle-exit", 0, "end when nothing has been asked for so long and no sandbox runs; 0: never")
	f.BoolVar(&s.stop, "stop", false, "end the server of this state directory instead; sandboxes go on")
	f.BoolVar(&s.install, "install", false, "write a systemd unit that serves with these flags, and say how to start it")
	f.BoolVar(&s.uninstall, "uninstall", false, "remove that unit")
	f.BoolVar(&s.printUnit, "print-unit", false, "print that unit")
	f.BoolVar(&s.user, "user", false, "with --install, --uninstall, --print-unit: a unit of your own, not the system's")
	f.BoolVar(&a.noTemplates, "no-templates", os.Getenv("BANDSOX_NO_TEMPLATES") != "", "boot every sandbox, and save no machines that have just booted (BANDSOX_NO_TEMPLATES=1, also for a server in the background)")
	f.BoolVar(&reload, "reload", false, "does nothing; for those who are used to it")
	f.StringVar(&s.logFile, "log-file", "", "write what is said to this file, of which little is kept")
	f.BoolVar(&a.keepLeftovers, "keep-leftovers", false, "leave to cleanup what killed processes left behind")
	_ = f.MarkHidden("log-file")
	_ = f.MarkHidden("keep-leftovers")
	jsonFlag(cmd, &s.asJSON, "print where it listens, or with --stop what was done, as JSON on one line")
	for _, f := range []string{"install", "uninstall", "print-unit"} {
		cmd.MarkFlagsMutuallyExclusive("json", f)
	}
	cmd.MarkFlagsMutuallyExclusive("stop", "install", "uninstall", "print-unit")
	cmd.MarkFlagsMutuallyExclusive("tls", "tls-cert")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}

// asOurs makes an error of what the server is made of one of the library's.
func asOurs(err error) error {
	var e *auth.Error
	var ours *bandsox.Error
	if errors.As(err, &e) && !errors.As(err, &ours) {
		return &bandsox.Error{Code: e.Code, Err: err, Hint: e.Hint}
	}
	return err
}

func (a *app) serve(ctx context.Context, s serveFlags) (err error) {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	closeLog, err := s.redirect(a.verbose)
	if err != nil {
		return err
	}
	defer closeLog()
	keys := auth.Open(dir.Auth())
	on, err := keys.Enabled()
	if err != nil {
		return err
	}
	addr, warning, err := s.address(on)
	if err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	m, err := bandsox.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv, err := server.New(server.Options{Manager: m, Shutdown: cancel, Auth: keys, Version: buildVersion(), Audit: dir.Audit(), Domain: s.domain, Webhooks: dir.Webhooks(), Settings: a.managerFlags(),
		Guard: auth.Options{Hosts: s.names(), Origins: s.origins, Insecure: s.insecure, Secure: s.proxied}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	l, certificate, err := s.listen(ctx, dir, addr)
	if err != nil {
		return err
	}
	defer l.Close()
	l.Ready = func() {
		s.announce(l, certificate, warning)
		notify("READY=1")
	}
	defer context.AfterFunc(ctx, func() { notify("STOPPING=1") })()
	return srv.Run(ctx, l.Listen)
}

// stateDir is the state directory that the flags name.
func (a *app) stateDir() (store.Layout, error) {
	dir, err := a.storage, error(nil)
	if dir == "" {
		dir, err = store.DefaultDir()
	}
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	return store.Layout(dir), err
}

// address is where to listen on TCP, "" for nowhere, and what to warn of.
func (s *serveFlags) address(keys bool) (addr, warning string, err error) {
	if s.socketOnly {
		return "", "", nil
	}
	if s.port < 0 || s.port > 65535 {
		return "", "", usageError("--port %d: must be from 0 to 65535", s.port)
	}
	host := s.host
	if host == "" {
		host = auth.DefaultHost(keys)
	}
	addr = net.JoinHostPort(host, strconv.Itoa(s.port))
	warning, err = auth.CheckListen(addr, keys, s.insecure, s.tls || s.cert != "" || s.proxied)
	return addr, warning, err
}

// names are those that the server is called by.
func (s *serveFlags) names() []string {
	names := s.hosts
	if s.domain != "" && s.domain != "localhost" {
		names = append(names, s.domain)
	}
	if s.host != "" && len(names) > 0 {
		names = append(names, s.host)
	}
	return names
}

// listener is where a server listens, until it is closed.
type listener struct{ server.Listen }

func (l *listener) Close() {
	for _, c := range []net.Listener{l.Socket, l.TCP} {
		if c != nil {
			_ = c.Close()
		}
	}
}

func (s *serveFlags) listen(ctx context.Context, dir store.Layout, addr string) (_ *listener, _ *auth.Certificate, err error) {
	l := &listener{server.Listen{IdleExit: s.idleExit}}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.Socket, err = server.ListenSocket(dir.Socket()); err != nil {
		return nil, nil, err
	}
	if addr == "" {
		return l, nil, nil
	}
	if l.TCP, err = net.Listen("tcp", addr); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, nil, &bandsox.Error{Code: bandsox.CodeConflict, Err: fmt.Errorf("listening on %s: another program does", addr), Hint: "--port 0 takes one that is free"}
		}
		return nil, nil, &bandsox.Error{Code: bandsox.CodeUnavailable, Err: err}
	}
	certificate, err := s.certificate(ctx, dir)
	if certificate != nil {
		l.TLS = certificate.Config()
	}
	return l, certificate, err
}

func (s *serveFlags) certificate(ctx context.Context, dir store.Layout) (*auth.Certificate, error) {
	switch {
	case s.cert != "":
		return auth.LoadCertificate(s.cert, s.key)
	case !s.tls:
		return nil, nil
	}
	// The addresses of this machine aren't among them: when one changed, so
	// would the fingerprint.
	names := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && h != "localhost" {
		names = append(names, h)
	}
	if ip := net.ParseIP(s.host); s.host != "" && (ip == nil || !ip.IsUnspecified() && !ip.IsLoopback()) {
		names = append(names, s.host)
	}
	names = append(names, s.hosts...)
	if s.domain != "" {
		names = append(names, s.domain, "*."+s.domain)
	}
	return auth.SelfSigned(ctx, dir.Certificate(), names)
}

// The bounds of a background server's log.
const (
	logBytes = 1 << 20
	logFiles = 1
)

// redirect sends what is said to the log file, if there is one: what Go itself
// says when it dies too.
func (s *serveFlags) redirect(verbose bool) (undo func(), err error) {
	if s.logFile == "" {
		return func() {}, nil
	}
	f, err := store.OpenRotating(s.logFile, logBytes, logFiles)
	if err != nil {
		return nil, err
	}
	f.Rotated = func(f *os.File) {
		for fd := 1; fd <= 2; fd++ {
			_ = unix.Dup3(int(f.Fd()), fd, 0)
		}
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Writer(f), &slog.HandlerOptions{Level: level})))
	return func() { _ = f.Close() }, nil
}

// notify tells systemd, where it has started us, how we are.
func notify(state string) {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return
	}
	c, err := net.Dial("unixgram", addr) // net knows that @ is an abstract name
	if err != nil {
		slog.Warn("telling systemd", "err", err)
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
