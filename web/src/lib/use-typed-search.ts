import { useEffect, useState } from "react";

const TYPING_MS = 250;

/**
 * The text of a search field that is also in the address: what is typed goes there after a moment; what comes into the
 * address another way (somebody has gone back, or to another link) is shown.
 */
export function useTypedSearch(
  q: string,
  toAddress: (text: string) => void,
): [string, (text: string) => void] {
  const [typed, setTyped] = useState(q);
  const [seen, setSeen] = useState(q);
  const [own, setOwn] = useState(q); // the last that was put into the address from here
  if (q !== seen) {
    setSeen(q);
    if (q !== own) {
      setOwn(q);
      setTyped(q);
    }
  }
  useEffect(() => {
    const text = typed.trim();
    if (text === q) return;
    const timer = setTimeout(() => {
      setOwn(text);
      toAddress(text);
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed, q, toAddress]);
  return [typed, setTyped];
}
