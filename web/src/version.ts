// What the server is and can do.
import { get } from "./api.ts";

export interface Version {
  version: string;
  domain?: string;
  snapshots?: boolean;
}

let asked: Promise<Version> | undefined;

/** Asks once, unless that fails. */
export function version(): Promise<Version> {
  asked ??= get<Version>("/version").catch((e) => {
    asked = undefined;
    throw e;
  });
  return asked;
}
