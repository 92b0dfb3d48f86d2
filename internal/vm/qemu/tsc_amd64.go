package qemu

func rdtsc() uint64

const hasTSC = true
