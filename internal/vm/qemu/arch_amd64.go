package qemu

var guest = arch{
	qemu: "x86_64",
	pack: "qemu-system-x86",
	// A clock chip stays: without one the kernel waits two seconds for it.
	machine: "microvm,rtc=on,pit=off,pic=off,isa-serial=on,x-option-roms=off",
	cpu: map[string]string{
		"kvm": "host",
		// x86-64-v3, which some images are built for. It boots a quarter
		// second sooner than max, and as fast as the least CPU there is.
		"tcg": "qemu64,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+bmi1,+bmi2,+f16c,+fma,+movbe,+abm,+xsave,+xsaveopt",
	},
	// The early console shows a kernel that dies before the real one; it costs
	// nothing that can be measured. The serial driver itself stays out.
	console: "earlycon=uart8250,io,0x3f8 8250.nr_uarts=0",
	early:   []string{"-serial", "chardev:early"},
}
