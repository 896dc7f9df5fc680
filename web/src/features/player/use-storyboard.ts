import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { parseStoryboard, type Tile } from "./storyboard";

const none: readonly Tile[] = [];

/** The tiles of the storyboard, fetched once somebody wants to see one. */
export function useStoryboard(url: string | null, wanted: boolean): readonly Tile[] {
  const { data } = useQuery({
    queryKey: ["player", "storyboard", url],
    queryFn: async ({ signal }) => {
      const address = new URL(url ?? "", document.baseURI);
      const answer = await fetch(address, { signal });
      if (!answer.ok) throw new Error(`storyboard: ${answer.status}`);
      return parseStoryboard(await answer.text(), address.href);
    },
    enabled: wanted && url !== null,
    placeholderData: keepPreviousData, // a new token is a new address of the same pictures
    staleTime: Number.POSITIVE_INFINITY,
    retry: 1,
  });
  return url === null ? none : (data ?? none);
}
