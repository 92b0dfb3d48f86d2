package firecracker

const console = "earlycon console=ttyS0"
