package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Where a driver is.
const (
	Builtin = "builtin" // in the kernel itself
	Loaded  = "module"  // to be loaded from the initramfs
	Missing = "missing" // the kernel doesn't have it
	Unknown = "unknown" // the kernel doesn't say what it has
)

// drivers are those that a sandbox may need, each with the option of the
// kernel's configuration that builds it.
var drivers = map[string]string{
	"virtio_mmio":                "VIRTIO_MMIO",
	"virtio_pci":                 "VIRTIO_PCI",
	"virtio_blk":                 "VIRTIO_BLK",
	"virtio_console":             "VIRTIO_CONSOLE",
	"virtio_net":                 "VIRTIO_NET",
	"virtio_rng":                 "HW_RANDOM_VIRTIO",
	"virtio_balloon":             "VIRTIO_BALLOON",
	"overlay":                    "OVERLAY_FS",
	"ext4":                       "EXT4_FS",
	"vmw_vsock_virtio_transport": "VIRTIO_VSOCKETS",
	"af_packet":                  "PACKET",
}

// required are the drivers no sandbox can do without: one of each line.
var required = [][]string{
	{"virtio_mmio", "virtio_pci"},
	{"virtio_blk"},
	{"virtio_console", "vmw_vsock_virtio_transport"},
	{"overlay"},
	{"ext4"},
}

// where tells where each driver is, from the modules and the configuration.
func where(t *moduleTree, taken []Module, config []byte) map[string]string {
	set := configured(config)
	at := map[string]string{}
	for name, option := range drivers {
		state := Missing
		switch {
		case slices.ContainsFunc(taken, func(m Module) bool { return m.Name == name }):
			state = Loaded
		case t != nil && t.builtin[name], set[option] == 'y':
			state = Builtin
		case config == nil && (t == nil || t.builtin == nil):
			state = Unknown
		}
		at[name] = state
	}
	return at
}

// configured reads CONFIG_X=y|m lines.
func configured(config []byte) map[string]byte {
	set := map[string]byte{}
	for line := range strings.Lines(string(config)) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), "=")
		if name, isOption := strings.CutPrefix(k, "CONFIG_"); ok && isOption && (v == "y" || v == "m") {
			set[name] = v[0]
		}
	}
	return set
}

// lacking names the first thing that a sandbox needs and the kernel hasn't.
func lacking(at map[string]string, also []string, pvh bool) error {
	for _, alternatives := range required {
		if !slices.ContainsFunc(alternatives, func(n string) bool { return at[n] != Missing }) {
			return fmt.Errorf("it lacks %s", strings.Join(alternatives, " and "))
		}
	}
	for _, n := range also {
		if n == "pvh" && !pvh {
			return errors.New("it lacks the PVH entry point")
		}
		if at[n] == Missing {
			return fmt.Errorf("it lacks %s", n)
		}
	}
	return nil
}
