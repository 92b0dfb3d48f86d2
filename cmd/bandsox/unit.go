package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/store"
)

const unitName = "bandsox.service"

// unit writes, prints or removes the systemd unit.
func (a *app) unit(cmd *cobra.Command, s serveFlags) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	self, err := executable()
	if err != nil {
		return err
	}
	text := unitText(append([]string{self}, a.unitArgs(cmd, dir)...), dir, s.user)
	if s.printUnit {
		fmt.Print(text)
		return nil
	}
	path, err := unitPath(s.user)
	if err != nil {
		return err
	}
	ctl := "systemctl"
	if s.user {
		ctl = "systemctl --user"
	}
	if s.uninstall {
		if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			return &bandsox.Error{Code: bandsox.CodeNotFound, Err: fmt.Errorf("there is no unit %s", path)}
		} else if err != nil {
			return unitError(err)
		}
		// disable --now stops nothing where it finds no unit to disable.
		fmt.Printf("Removed %s. To end it, with its sandboxes going on:\n\n  %s stop %s\n  %s disable %s\n  %s daemon-reload\n",
			path, ctl, unitName, ctl, unitName, ctl)
		return nil
	}
	if _, err := os.Stat(systemdRuns); err != nil {
		return &bandsox.Error{Code: bandsox.CodeUnavailable, Err: errors.New("systemd doesn't run this machine"),
			Hint: "bandsox serve --print-unit prints the unit; or have what starts programs here start: bandsox serve"}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return unitError(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return unitError(err)
	}
	fmt.Printf("Wrote %s: %s serve, with the state directory %s.\n\nTo start it now and with the machine:\n\n  %s daemon-reload\n  %s enable --now %s\n\nWhat it says: journal%s -u %s\n",
		path, self, dir, ctl, ctl, unitName, strings.TrimPrefix(ctl, "system"), unitName)
	if s.user {
		fmt.Println("To have it run while you are not logged in: loginctl enable-linger")
	}
	return nil
}

// systemdRuns is there where systemd is the machine's init.
var systemdRuns = "/run/systemd/system"

func unitError(err error) error {
	e := &bandsox.Error{Code: bandsox.CodeUnavailable, Err: err}
	if errors.Is(err, fs.ErrPermission) {
		e.Code, e.Hint = bandsox.CodeDenied, "do so as root; or for a unit of your own: bandsox serve --install --user"
	}
	return e
}

func unitPath(user bool) (string, error) {
	if !user {
		return filepath.Join("/etc/systemd/system", unitName), nil
	}
	config, err := os.UserConfigDir()
	return filepath.Join(config, "systemd/user", unitName), err
}

// unitArgs are the flags that were given, but those about the unit, and where
// the state is, wherever the unit is started.
func (a *app) unitArgs(cmd *cobra.Command, dir store.Layout) []string {
	args := append([]string{"--storage", dir.Dir()}, a.managerFlags()...)
	if a.verbose {
		args = append(args, "--verbose")
	}
	args = append(args, "serve")
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { // Visit knows nothing of a set made anew
		if !f.Changed {
			return
		}
		switch f.Name {
		case "install", "uninstall", "print-unit", "user", "reload", "log-file":
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+v)
			}
			return
		}
		value := f.Value.String()
		if f.Name == "tls-cert" || f.Name == "tls-key" {
			value = absolute(value)
		}
		args = append(args, "--"+f.Name+"="+value)
	})
	return args
}

// unitText is the unit. A machine is no part of the service that has started it:
// it goes on while that is restarted, and has what it may do from it. So nothing
// here keeps a machine from running, or QEMU from making code for an emulated one.
func unitText(command []string, dir store.Layout, user bool) string {
	var quoted []string
	for _, arg := range command {
		quoted = append(quoted, unitQuote(arg))
	}
	target, hardening := "multi-user.target", systemHardening
	if user {
		target, hardening = "default.target", ""
	}
	return fmt.Sprintf(`[Unit]
Description=BandSox: microVM sandboxes
Documentation=https://github.com/bandsox/bandsox
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=%s
Restart=on-failure
RestartSec=2
TimeoutStartSec=120
TimeoutStopSec=30
# Sandboxes outlive the server: the next one finds them again.
KillMode=process
OOMPolicy=continue
LimitNOFILE=1048576
TasksMax=infinity
UMask=0077
%s
[Install]
WantedBy=%s
`, strings.Join(quoted, " "), strings.ReplaceAll(hardening, "STATE", unitQuote(dir.Dir())), target)
}

const systemHardening = `
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=read-only
ReadWritePaths=STATE
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_VSOCK AF_PACKET
SystemCallArchitectures=native
LockPersonality=yes
DevicePolicy=closed
DeviceAllow=/dev/kvm rw
DeviceAllow=/dev/net/tun rw
DeviceAllow=/dev/vhost-net rw
DeviceAllow=/dev/vhost-vsock rw
`

// unitQuote writes a word as systemd reads it.
func unitQuote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`).Replace(s)
	if s == "" || strings.ContainsAny(s, " \t\"'\\;") {
		return `"` + s + `"`
	}
	return s
}
