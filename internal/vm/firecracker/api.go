package firecracker

// What the interface is asked for, field by field as it has them. It takes no
// field that it doesn't know and no null: what isn't set isn't sent.

type machineConfig struct {
	VCPUCount  int  `json:"vcpu_count"`
	MemSizeMiB int  `json:"mem_size_mib"`
	TrackDirty bool `json:"track_dirty_pages,omitempty"`
}

type bootSource struct {
	KernelImagePath string `json:"kernel_image_path"`
	InitrdPath      string `json:"initrd_path,omitempty"`
	BootArgs        string `json:"boot_args,omitempty"`
}

type driveConfig struct {
	DriveID    string `json:"drive_id"`
	PathOnHost string `json:"path_on_host"`
	IsRoot     bool   `json:"is_root_device"`
	IsReadOnly bool   `json:"is_read_only"`
	// Writeback has the guest's flushes reach the host's disk; Unsafe, the
	// default, doesn't even tell the guest that there is something to flush.
	CacheType string `json:"cache_type,omitempty"`
	IOEngine  string `json:"io_engine,omitempty"`
}

// driveUpdate makes Firecracker open the file again and tell the guest its size.
type driveUpdate struct {
	DriveID    string `json:"drive_id"`
	PathOnHost string `json:"path_on_host"`
}

type vsockConfig struct {
	GuestCID int    `json:"guest_cid"`
	UDSPath  string `json:"uds_path"`
}

type action struct {
	ActionType string `json:"action_type"`
}

type vmState struct {
	State string `json:"state"` // what is asked for
}

// instanceInfo is what there is: the answer to GET /.
type instanceInfo struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	VMMVersion string `json:"vmm_version"`
	AppName    string `json:"app_name"`
}

// The states of an instance, as the interface has them.
const (
	stateRunning = "Running"
	statePaused  = "Paused"
	askPause     = "Paused"
	askResume    = "Resumed"
)

type snapshotCreate struct {
	SnapshotType string `json:"snapshot_type"` // "Full" or "Diff"
	SnapshotPath string `json:"snapshot_path"`
	MemFilePath  string `json:"mem_file_path"`
}

type snapshotLoad struct {
	SnapshotPath string     `json:"snapshot_path"`
	MemBackend   memBackend `json:"mem_backend"`
	ResumeVM     bool       `json:"resume_vm"`
}

type memBackend struct {
	BackendType string `json:"backend_type"`
	BackendPath string `json:"backend_path"`
}
