import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

const IDLE_MS = 2500;

/** Whether nobody has moved in the player for a while, so that its controls may go; and how to wake it. */
export function useIdle(root: RefObject<HTMLElement | null>, busy: boolean): [boolean, () => void] {
  const [idle, setIdle] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const wake = useCallback(() => {
    setIdle(false);
    clearTimeout(timer.current);
    if (busy) return;
    timer.current = setTimeout(() => {
      // Who goes through the controls by keyboard must see where they are.
      if (!root.current?.querySelector(":focus-visible")) setIdle(true);
    }, IDLE_MS);
  }, [busy, root]);
  useEffect(() => {
    const element = root.current;
    wake();
    for (const name of ["pointermove", "pointerdown", "focusin"]) element?.addEventListener(name, wake);
    return () => {
      clearTimeout(timer.current);
      for (const name of ["pointermove", "pointerdown", "focusin"]) element?.removeEventListener(name, wake);
    };
  }, [root, wake]);
  return [idle, wake];
}
