import { Link, useNavigate, useRouterState } from "@tanstack/react-router";
import { Search } from "lucide-react";
import { useEffect, useState } from "react";
import { buttonClass } from "@/components/button";
import { SearchInput } from "@/components/search-input";
import { cn } from "@/lib/cn";

/** Where writing goes already, a slash is a letter. */
function isWriting(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || target.closest("input, textarea, select, dialog, [role=menu]") !== null)
  );
}

/** The search of the whole application, in its header; the key "/" leads to it from everywhere. */
export function SearchField() {
  const navigate = useNavigate();
  const onSearchPage = useRouterState({ select: ({ location }) => location.pathname === "/search" });
  const [typed, setTyped] = useState("");
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.defaultPrevented || isWriting(event.target)) return;
      event.preventDefault();
      const fields = document.querySelectorAll<HTMLInputElement>("[data-search]");
      const shown = Array.from(fields).find((field) => field.offsetParent !== null);
      if (shown) shown.select();
      else void navigate({ to: "/search" }); // on a phone the header has a button only
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [navigate]);
  if (onSearchPage) return null; // which has a field of its own
  return (
    <>
      <form
        className="max-sm:hidden"
        onSubmit={(event) => {
          event.preventDefault();
          const q = typed.trim();
          setTyped("");
          void navigate({ to: "/search", search: q ? { q } : {} });
        }}
      >
        <SearchInput
          data-search=""
          boxClassName="w-44 lg:w-72"
          aria-label="Search in all videos"
          aria-keyshortcuts="/"
          placeholder="Search what is said"
          value={typed}
          onChange={setTyped}
        />
      </form>
      <Link
        to="/search"
        aria-label="Search in all videos"
        className={cn(buttonClass({ variant: "ghost", size: "icon" }), "sm:hidden")}
      >
        <Search aria-hidden="true" />
      </Link>
    </>
  );
}
