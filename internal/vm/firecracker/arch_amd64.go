package firecracker

// console is the serial port, which costs the guest a trip to the host for each
// byte; the early one shows a kernel that dies before it has a console. What
// Firecracker's keyboard controller hasn't isn't looked for. The clock is KVM's.
const console = "earlycon=uart8250,io,0x3f8 console=ttyS0 8250.nr_uarts=1 " +
	"i8042.noaux i8042.nomux i8042.dumbkbd i8042.nopnp no_timer_check tsc=reliable"
