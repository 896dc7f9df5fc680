// Signs in with the unmodified supabase-js through a provider, and prints what came back as one JSON document.
import { createClient } from "@supabase/supabase-js";

const [base] = process.argv.slice(2);

// Node 20 has no WebSocket of its own, without which createClient throws; nothing here opens one.
class NoSocket {}

const kept = new Map();
const storage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => void kept.set(key, value),
  removeItem: (key) => void kept.delete(key),
};
const supabase = createClient(base, "sb_publishable_anything", {
  auth: { flowType: "pkce", autoRefreshToken: false, storage },
  realtime: { transport: NoSocket },
});

const cookies = new Map();

// As a browser follows them: with the cookies that Echo has set, which the provider never sees.
async function follow(url) {
  const passed = [];
  let at = new URL(url);
  while (at.pathname !== "/app") {
    const here = at.origin === base;
    const headers = here ? { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") } : {};
    const answer = await fetch(at, { redirect: "manual", headers });
    for (const line of here ? answer.headers.getSetCookie() : []) {
      const [name, value] = line.split(";")[0].split("=");
      cookies.set(name, value);
    }
    passed.push(`${here ? "echo" : "provider"} ${at.pathname} ${answer.status}`);
    if (answer.status !== 302) break;
    at = new URL(answer.headers.get("location"), at);
  }
  return { at, passed };
}

const code = (answer) => ({ status: answer.error?.status ?? 0, code: answer.error?.code ?? "" });
const told = { secrets: [] };

const begun = await supabase.auth.signInWithOAuth({
  provider: "google",
  options: { redirectTo: `${base}/app`, skipBrowserRedirect: true },
});
told.begun = code(begun);
const { at, passed } = await follow(begun.data.url);
told.passed = passed;
const given = at.searchParams.get("code");
const exchanged = await supabase.auth.exchangeCodeForSession(given);
const session = exchanged.data.session;
told.exchanged = code(exchanged);
told.session = Boolean(session?.access_token && session?.refresh_token);
told.user = {
  email: exchanged.data.user?.email,
  name: exchanged.data.user?.user_metadata.full_name,
  providers: exchanged.data.user?.app_metadata.providers,
};
const identities = await supabase.auth.getUserIdentities();
told.identities = identities.data?.identities.map(({ provider, id }) => `${provider} ${id}`);
const claims = await supabase.auth.getClaims();
told.claims = { alg: claims.data?.header.alg, amr: claims.data?.claims.amr[0].method, ...code(claims) };
const api = await fetch(`${base}/api/v1/videos`, { headers: { Authorization: `Bearer ${session?.access_token}` } });
told.api = api.status;
told.refreshed = code(await supabase.auth.refreshSession());
const again = await supabase.auth.signInWithOAuth({
  provider: "google",
  options: { redirectTo: `${base}/app`, skipBrowserRedirect: true },
});
told.again = code(again);
told.replayed = code(await supabase.auth.exchangeCodeForSession(given));
told.secrets.push(given, session?.access_token, session?.refresh_token, ...cookies.values());
console.log(JSON.stringify(told));
