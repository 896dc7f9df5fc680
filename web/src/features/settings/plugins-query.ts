import { queryOptions } from "@tanstack/react-query";
import { api, body } from "@/api/client";

/** The plugins of this Echo, with what they provide and what they cannot do. */
export const pluginsQuery = queryOptions({
  queryKey: ["plugins"],
  queryFn: ({ signal }) => body(api.GET("/api/v1/plugins", { signal })),
});
