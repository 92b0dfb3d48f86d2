// Asking again and again, while somebody looks.
import { useEffect, useState } from "preact/hooks";

export interface Answer<T> {
  value?: T;
  error?: unknown;
  again: () => void;
}

/** Calls ask at once and each so many milliseconds; not while the tab is hidden, nor while off. */
export function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, every: number, deps: unknown[], on = true): Answer<T> {
  const [state, setState] = useState<{ value?: T; error?: unknown }>({});
  const [round, setRound] = useState(0);
  useEffect(() => {
    setState({});
  }, deps);
  useEffect(() => {
    if (!on) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      if (!document.hidden) {
        try {
          const value = await ask(abort.signal);
          if (!abort.signal.aborted) setState({ value });
        } catch (error) {
          if (!abort.signal.aborted) setState((s) => ({ ...s, error }));
        }
      }
      if (!abort.signal.aborted) timer = setTimeout(look, every);
    };
    void look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [...deps, on, round]);
  return { ...state, again: () => setRound((r) => r + 1) };
}
