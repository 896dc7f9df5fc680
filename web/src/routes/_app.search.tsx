import { createFileRoute, useNavigate } from "@tanstack/react-router";
import { useCallback, useEffect, useRef } from "react";
import { SearchInput } from "@/components/search-input";
import { searchQuery } from "@/features/search/queries";
import { SearchResults } from "@/features/search/search-results";
import { useTypedSearch } from "@/lib/use-typed-search";

export const Route = createFileRoute("/_app/search")({
  validateSearch: (search): { q?: string | undefined } => {
    const q = search.q === undefined ? "" : String(search.q).trim().slice(0, 200);
    return { q: q || undefined }; // said even when undefined: the router keeps what is left out as it came
  },
  loaderDeps: ({ search }) => search,
  loader: ({ context, deps }) =>
    void (deps.q && context.queryClient.prefetchInfiniteQuery(searchQuery(deps.q))),
  head: () => ({ meta: [{ title: "Search · Echo" }] }),
  component: Page,
});

function Page() {
  const { q = "" } = Route.useSearch();
  const navigate = useNavigate({ from: Route.fullPath });
  const toAddress = useCallback(
    (text: string) => void navigate({ search: text ? { q: text } : {}, replace: true }),
    [navigate],
  );
  const [typed, setTyped] = useTypedSearch(q, toAddress);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    // After the router has given the focus to the page.
    if (!field.current?.value) requestAnimationFrame(() => field.current?.focus());
  }, []);
  return (
    <div className="mx-auto grid max-w-4xl gap-5">
      <title>{q ? `${q} · Search · Echo` : "Search · Echo"}</title>
      <h1 className="font-bold text-3xl tracking-tight">Search</h1>
      <SearchInput
        ref={field}
        data-search=""
        aria-label="Search in all videos"
        aria-keyshortcuts="/"
        placeholder="Words that are written or said"
        value={typed}
        onChange={setTyped}
      />
      <SearchResults q={q} />
    </div>
  );
}
