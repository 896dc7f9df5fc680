import { infiniteQueryOptions, keepPreviousData } from "@tanstack/react-query";
import { api, body } from "@/api/client";

const PAGE = 20;

/** Videos in which the words are written or said, the best first, page after page. */
export function searchQuery(q: string) {
  return infiniteQueryOptions({
    queryKey: ["search", q],
    queryFn: ({ pageParam, signal }) =>
      body(
        api.GET("/api/v1/search", {
          params: { query: { q, limit: PAGE, ...(pageParam && { cursor: pageParam }) } },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextCursor ?? undefined,
    enabled: q !== "",
    placeholderData: keepPreviousData, // while somebody types, what was found stays until there is more
  });
}
