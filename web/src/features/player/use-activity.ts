import { useCallback, useEffect, useRef, useState } from "react";

const idleAfterMs = 2500;

/** Whether somebody is at the player: true for a while after each `wake`, and as long as a control has visible focus. */
export function useActivity(root: HTMLElement | null): { active: boolean; wake(): void; sleep(): void } {
  const [active, setActive] = useState(true);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const wake = useCallback(() => {
    setActive(true);
    clearTimeout(timer.current);
    const look = () => {
      if (root?.querySelector("[data-controls] :focus-visible"))
        timer.current = setTimeout(look, idleAfterMs);
      else setActive(false);
    };
    timer.current = setTimeout(look, idleAfterMs);
  }, [root]);
  const sleep = useCallback(() => {
    clearTimeout(timer.current);
    setActive(false);
  }, []);
  useEffect(() => {
    wake();
    return () => clearTimeout(timer.current);
  }, [wake]);
  return { active, wake, sleep };
}

/** True once `on` has lasted for `delayMs`. */
export function useDelayed(on: boolean, delayMs: number): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (!on) return;
    const timer = setTimeout(() => setLate(true), delayMs);
    return () => {
      clearTimeout(timer);
      setLate(false);
    };
  }, [on, delayMs]);
  return on && late;
}

/** A word over the picture that goes away by itself; what is `spoken` goes to screen readers too. */
export function useToast(): { toast: string; spoken: string; say(text: string, spoken?: boolean): void } {
  const [toast, setToast] = useState("");
  const [spoken, setSpoken] = useState("");
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const say = useCallback((text: string, aloud = false) => {
    setToast(text);
    if (aloud) setSpoken(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setToast("");
      setSpoken(""); // so that the same words are news the next time
    }, 1200);
  }, []);
  useEffect(() => () => clearTimeout(timer.current), []);
  return { toast, spoken, say };
}
