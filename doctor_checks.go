package bandsox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/firecracker"
	"github.com/bandsox/bandsox/internal/vm/qemu"
	"github.com/bandsox/bandsox/internal/wire"
)

// host is one look at this machine. The fields under o are set by the check
// that finds them out and read when all have ended.
type host struct {
	o           DoctorOptions
	qemu        string // its version
	firecracker string // the same
}

// probe is a check before it ran: absent is its status when try fails.
type probe struct {
	name   string
	why    string
	absent Status
	try    func(context.Context) (string, error) // what was found; the error's hint becomes the fix
}

func (h *host) probes() []probe {
	return []probe{
		{"kvm", "without it guests are emulated, several times slower", StatusWarning, h.kvm},
		{"qemu", "runs the machines", StatusMissing, h.qemuVersion},
		{"firecracker", "runs the machines where there is KVM: smaller and sooner than qemu", StatusWarning, h.firecrackerVersion},
		{"jailer", "holds a guest that broke out of its firecracker", StatusWarning, h.jailer},
		{"kernel", "every guest boots it", StatusMissing, h.kernel},
		{"agent", "the program in every guest that runs what you ask for", StatusMissing, lookAgent},
		{"mke2fs", "makes each sandbox's disk", StatusMissing, lookMke2fs},
		{"mmdebstrap", "builds the image bandsox/base where no registry can be reached", StatusWarning, lookMmdebstrap},
		{"space", "images and disks are kept in the state directory", StatusWarning, h.space},
		{"cgroups", "bound what a machine may use of the host", StatusWarning, lookCgroups},
		{"userns", "lets BandSox confine machines without being root", StatusWarning, lookUserNS},
		{"tap", "the faster kind of network; without it guests get one in user space", StatusWarning, lookTap},
		{"registry", "images come from there unless they are here already", StatusWarning, h.registry},
		{"docker", "its images can be used without pulling them again", StatusWarning, h.docker},
	}
}

// run makes all checks at once. One that doesn't come back is reported and left.
func (h *host) run(ctx context.Context) []Check {
	type outcome struct {
		detail string
		err    error
	}
	probes := h.probes()
	outcomes := make([]chan outcome, len(probes))
	for i, p := range probes {
		ch := make(chan outcome, 1)
		outcomes[i] = ch
		go func() {
			detail, err := p.try(ctx)
			ch <- outcome{detail, err}
		}()
	}
	// A check notices the deadline itself and says what it was waiting for:
	// give it the time to.
	late := time.After(doctorTime + 500*time.Millisecond)
	checks := make([]Check, len(probes))
	for i, p := range probes {
		var out outcome
		select {
		case out = <-outcomes[i]:
		case <-late:
			late = time.After(0)
			out.err = errors.New("no answer in time")
		}
		checks[i] = p.check(out.detail, out.err)
	}
	return checks
}

func (p probe) check(detail string, err error) Check {
	c := Check{Name: p.name, Status: StatusOK, Detail: detail, Why: p.why}
	if err != nil {
		c.Status, c.Detail = p.absent, err.Error()
		var e *wire.Error
		if errors.As(err, &e) {
			c.Fix = e.Hint
		}
	}
	return c
}

// drivers are those of the checks, the one that will be used first.
func (h *host) drivers(checks []Check) []DriverReport {
	of := map[string]Check{}
	for _, c := range checks {
		of[c.Name] = c
	}
	kvm := of["kvm"].Status == StatusOK
	f := DriverReport{Name: "firecracker", Version: h.firecracker, Accel: "kvm", Works: true}
	switch {
	case of[f.Name].Status != StatusOK:
		f.Works, f.Accel, f.Reason = false, "", of[f.Name].Detail
	case !kvm:
		f.Works, f.Accel, f.Reason = false, "", "it needs KVM: "+of["kvm"].Detail
	}
	q := DriverReport{Name: "qemu", Version: h.qemu, Accel: "tcg", Works: true}
	switch {
	case of[q.Name].Status != StatusOK:
		q.Works, q.Accel, q.Reason = false, "", of[q.Name].Detail
	case kvm:
		q.Accel = "kvm"
	}
	if !f.Works {
		return []DriverReport{q, f}
	}
	return []DriverReport{f, q}
}

func missing(fix, format string, args ...any) error {
	return wire.Errorf(wire.NotFound, format, args...).WithHint("%s", fix)
}

// aptInstall is the command that installs a Debian package, for whoever asks.
func aptInstall(pkg string) string {
	cmd := "apt-get install --no-install-recommends " + pkg
	if os.Geteuid() != 0 {
		cmd = "sudo " + cmd
	}
	return cmd
}

func (h *host) kvm(ctx context.Context) (string, error) {
	k := vm.ProbeKVM(ctx)
	if !k.Works {
		return "", missing(k.Hint, "%s", k.Reason)
	}
	return fmt.Sprintf("runs a guest (proved in %d ms)", k.Took.Milliseconds()), nil
}

// oldestQEMU has the microvm machine without legacy devices, and -netdev stream.
const oldestQEMU = 7

func (h *host) qemuVersion(ctx context.Context) (string, error) {
	v, err := qemu.New(qemu.Options{}).Version(ctx)
	if err != nil {
		return "", err
	}
	major, _, _ := strings.Cut(v, ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestQEMU {
		return "", missing(aptInstall("qemu-system-x86"), "found version %s, %d or newer is needed", v, oldestQEMU)
	}
	h.qemu = v
	return "version " + v, nil
}

// firecrackers are those that a manager of this state directory finds.
func (h *host) firecrackers() firecracker.Options {
	return firecracker.Options{Bin: store.Layout(h.o.Storage).Bin()}
}

func (h *host) firecrackerVersion(ctx context.Context) (string, error) {
	v, err := firecracker.New(h.firecrackers()).Version(ctx)
	if err != nil {
		return "", err
	}
	h.firecracker = v
	return "version " + v, nil
}

func (h *host) jailer(ctx context.Context) (string, error) {
	if _, err := firecracker.New(h.firecrackers()).Version(ctx); err != nil {
		return "of no use without firecracker", nil
	}
	return firecracker.Confinement(h.firecrackers())
}

func (h *host) kernel(context.Context) (string, error) {
	k, err := kernel.Open(store.Layout(h.o.Storage).Kernels())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s (%s), from %s", k.Version, k.Arch, k.Source), nil
}

func lookAgent(context.Context) (string, error) {
	b, err := (&Manager{}).agentProgram()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f MB", float64(len(b))/1e6), nil
}

func lookMke2fs(ctx context.Context) (string, error) {
	path, err := findTool("mke2fs")
	if err != nil {
		return "", missing(aptInstall("e2fsprogs"), "not found")
	}
	out, err := exec.CommandContext(ctx, path, "-V").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -V: %w", path, err)
	}
	if f := strings.Fields(string(out)); len(f) > 1 { // mke2fs 1.47.0 (5-Feb-2023)
		return "version " + f[1], nil
	}
	return path, nil
}

// findTool also looks where Debian keeps root's tools, which are not on an
// ordinary user's PATH.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", err
}

func lookMmdebstrap(context.Context) (string, error) {
	path, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return "", missing(aptInstall("mmdebstrap"), "not found (optional)")
	}
	return path, nil
}

// enoughSpace is a few images and what some sandboxes write.
const enoughSpace = 4 << 30

func (h *host) space(context.Context) (string, error) {
	dir := h.o.Storage
	for { // it need not be there yet
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	free, err := disk.Free(dir)
	if err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), h.o.Storage)
	if free < enoughSpace {
		return "", missing("bandsox cleanup", "%s, %d GiB is comfortable", detail, enoughSpace>>30)
	}
	return detail, nil
}

func lookCgroups(context.Context) (string, error) {
	const root = "/sys/fs/cgroup"
	b, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return "", missing("boot the host with systemd.unified_cgroup_hierarchy=1", "cgroup v2 is not mounted at %s", root)
	}
	have := strings.Fields(string(b))
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(have, c) {
			return "", fmt.Errorf("version 2, without the %s controller", c)
		}
	}
	return "version 2: " + strings.Join(have, " "), nil
}

func lookUserNS(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		return "", missing("sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000", "making one: %w", err)
	}
	return "work", nil
}

// lookTap makes an interface that is gone when its descriptor is closed.
func lookTap(context.Context) (string, error) {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", missing("modprobe tun", "/dev/net/tun is not there")
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	ifr, err := unix.NewIfreq("bandsox%d")
	if err != nil {
		return "", err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, ifr); err != nil {
		if errors.Is(err, unix.EPERM) {
			return "", errors.New("needs root to make one")
		}
		return "", fmt.Errorf("making one: %w", err)
	}
	return "can be made", nil
}

func (h *host) registry(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	reg, err := name.NewRegistry(h.o.Registry)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("no answer within 2 s")
		}
		return "", missing("bandsox run bandsox/base", "reaching %s: %w", h.o.Registry, err)
	}
	resp.Body.Close()
	// Not being logged in is an answer.
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return "", missing("bandsox run bandsox/base", "%s answered %s", h.o.Registry, resp.Status)
	}
	return h.o.Registry + " answers", nil
}

func (h *host) docker(ctx context.Context) (string, error) {
	socket := h.o.Docker
	if socket == "" {
		socket = os.Getenv("DOCKER_HOST")
	}
	if socket == "" {
		socket = "/var/run/docker.sock"
	}
	network, addr := "unix", strings.TrimPrefix(socket, "unix://")
	if a, ok := strings.CutPrefix(socket, "tcp://"); ok {
		network, addr = "tcp", a
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return "", fmt.Errorf("no daemon at %s (optional)", addr)
	}
	conn.Close()
	return "a daemon listens at " + addr, nil
}
