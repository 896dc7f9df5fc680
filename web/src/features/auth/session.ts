import { createClient, isAuthApiError, type Session, type SupabaseClient } from "@supabase/supabase-js";
import { useSyncExternalStore } from "react";
import { type Instance, setTokenSource } from "@/api/client";
import { Problem } from "@/api/problem";
import { queryClient } from "@/api/query-client";
import { stopUploads } from "@/features/uploads/manager";

/** `undefined`: not known yet. */
let session: Session | null | undefined;
let client: SupabaseClient | null = null;
let known: Promise<void> = Promise.resolve();
const listeners = new Set<() => void>();

function take(next: Session | null): void {
  const before = session?.user.id;
  session = next;
  if (before !== undefined && before !== next?.user.id) {
    // Nobody sees what another person saw, nor sends what they sent; signing out may have happened in another tab.
    stopUploads();
    queryClient.clear();
  }
  for (const listener of listeners) listener();
}

/** Begin to follow who is signed in. supabase-js keeps the session, renews it, and tells the other tabs. */
export function startSession(instance: Instance): void {
  if (!instance.auth.url) {
    session = null;
    return;
  }
  client = createClient(instance.auth.url, instance.auth.key, {
    auth: { flowType: "pkce", detectSessionInUrl: false },
  });
  const { auth } = client;
  known = new Promise((resolve) => {
    auth.onAuthStateChange((_event, next) => {
      take(next);
      resolve();
    });
  });
  setTokenSource(async ({ fresh }) => {
    if (!fresh) return accessToken();
    const { data, error } = await auth.refreshSession();
    // The session is no more. supabase-js keeps it as long as its token seems good by the clock.
    if (isAuthApiError(error) && error.status < 500 && error.status !== 429)
      await auth.signOut({ scope: "local" });
    return data.session?.access_token ?? null;
  });
}

/** supabase-js's client for signing in and out. */
export function supabaseAuth(): SupabaseClient["auth"] {
  if (!client) {
    throw new Problem({
      code: "no_identity",
      message: "Nobody keeps users on this Echo.",
      remedy: 'Set auth.identity = "local" in echo.toml, or name a Supabase project in auth.issuer.',
    });
  }
  return client.auth;
}

/** Who is signed in, once that is known. */
export async function currentSession(): Promise<Session | null> {
  await known;
  return session ?? null;
}

/** A bearer token that is good for a while; null when signed out. */
export async function accessToken(): Promise<string | null> {
  if (!client) return null;
  const { data } = await client.auth.getSession();
  return data.session?.access_token ?? null;
}

export function useSession(): Session | null | undefined {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => session,
  );
}
