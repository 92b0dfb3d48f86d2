// The API's objects, as far as the pages look at them.

export type State = "creating" | "running" | "paused" | "stopped" | "failed" | "deleted";

export interface Sandbox {
  id: string;
  name?: string;
  image: string;
  digest: string;
  vcpu: number;
  mem_mib: number;
  disk_size_mib: number;
  created_at: number;
  status: State;
  reason?: string;
  env_vars?: Record<string, string>;
  metadata: Record<string, unknown>;
  labels?: Record<string, string>;
  expires_at?: string;
  idle_timeout_ns?: number;
  idle_action?: string;
  last_used_at?: string;
  doing?: string;
  kernel?: string;
  pid?: number;
  phases?: { name: string; ns: number }[];
}

export interface Stats {
  time: string;
  guest: boolean;
  cpu_percent: number;
  vcpu: number;
  load: number;
  mem_used: number;
  mem_cached: number;
  mem_limit: number;
  mem_host: number;
  disk_used: number;
  disk_total: number;
  disk_host: number;
  processes: number;
  uptime_seconds: number;
}

export interface Process {
  id: string;
  pid: number;
  argv: string[];
  user?: string;
  tty?: boolean;
  started: string;
  output: number;
  viewers: number;
  exit?: { code: number; signal?: number; timeout?: boolean; oom?: boolean };
}

export interface Entry {
  name: string;
  path: string;
  size: number;
  is_dir: boolean;
  is_file: boolean;
  mtime: number;
  mode?: string;
  target?: string;
}

export interface Event {
  id: number;
  time: string;
  type: string;
  sandbox?: string;
  name?: string;
  details?: Record<string, string>;
}

export interface Snapshot {
  id: string;
  name?: string;
  status?: string;
  created_at?: number;
  metadata?: Record<string, unknown>;
  source_vm_id?: string;
  [more: string]: unknown;
}
