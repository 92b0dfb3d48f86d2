package qemu

var guest = arch{
	qemu:    "aarch64",
	pack:    "qemu-system-arm",
	machine: "virt,gic-version=max",
	cpu:     map[string]string{"kvm": "host", "tcg": "max,pauth-impdef=on"},
	console: "earlycon",
	ram:     1 << 30,
	early:   []string{"-serial", "chardev:early"},
}
