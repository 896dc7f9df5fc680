import { queryOptions } from "@tanstack/react-query";
import { instance } from "@/api/instance";
import { networkProblem } from "@/api/problem";

export type AuthSettings = { disable_signup: boolean; external: { google?: boolean } };

/** What the sign-in service offers, whoever it is. */
export const authSettingsQuery = queryOptions({
  queryKey: ["auth", "settings"],
  staleTime: 300_000,
  queryFn: async ({ signal }): Promise<AuthSettings> => {
    const { url, key } = instance().auth;
    const response = await fetch(`${url}/auth/v1/settings`, { signal, headers: { apikey: key } }).catch(
      () => null,
    );
    if (!response?.ok) throw networkProblem();
    return (await response.json()) as AuthSettings;
  },
});
