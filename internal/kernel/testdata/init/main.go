// Command init is the first program of a test's guest: it loads the modules of
// its initramfs in the order given, says what came of it on the console, and
// powers off.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	defer unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	unix.Mount("proc", "/proc", "proc", 0, "")
	unix.Mount("dev", "/dev", "devtmpfs", 0, "")
	unix.Mount("sys", "/sys", "sysfs", 0, "")
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		fmt.Println("TEST fail:", err)
		return
	}
	for _, name := range strings.Fields(string(order)) {
		f, err := os.Open(filepath.Join("/modules", name))
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		if err != nil {
			fmt.Println("TEST fail:", name, err)
			return
		}
	}
	fs, _ := os.ReadFile("/proc/filesystems")
	for _, want := range []string{"overlay", "ext4"} {
		if !strings.Contains(string(fs), want) {
			fmt.Println("TEST fail: no", want)
			return
		}
	}
	for _, want := range []string{"/sys/block/vda", "/sys/class/virtio-ports"} {
		if _, err := os.Stat(want); err != nil {
			fmt.Println("TEST fail:", err)
			return
		}
	}
	var u unix.Utsname
	unix.Uname(&u)
	fmt.Println("TEST ok:", unix.ByteSliceToString(u.Release[:]))
}
